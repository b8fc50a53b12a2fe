package cli

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"
)

// readFile reads numbers from a file: a table when its name ends in .csv, else a list.
func readFile(name string) ([]entry, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	read := readNumbers
	if strings.HasSuffix(strings.ToLower(name), ".csv") {
		read = readTable
	}
	return read(f)
}

// readNumbers reads one or more numbers a line, separated by commas, semicolons or tabs.
func readNumbers(r io.Reader) ([]entry, error) {
	var entries []entry
	err := eachLine(r, func(where, line string) {
		line, _, _ = strings.Cut(line, "#")
		for n := range strings.SplitSeq(separators.Replace(line), ",") {
			if n = strings.TrimSpace(n); n != "" {
				entries = append(entries, entry{where: where, number: n})
			}
		}
	})
	return entries, err
}

// readTable reads a number a line, and after it its carrier. A first line that has a
// column called number says which column is what; other columns are left alone then.
func readTable(r io.Reader) ([]entry, error) {
	var entries []entry
	number, carrier, named, first := 0, 1, false, true
	err := eachLine(r, func(where, line string) {
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			return
		}
		cells := strings.Split(separators.Replace(line), ",")
		for i := range cells {
			cells[i] = strings.Trim(cells[i], " \"'\u00a0")
		}
		if first {
			first = false
			if at := column(cells, "number"); at >= 0 {
				number, carrier, named = at, column(cells, "carrier"), true
				return
			}
		}
		e := entry{where: where, number: cell(cells, number), carrier: cell(cells, carrier)}
		if !named && len(cells) > 2 {
			e.number = "" // who knows what the columns are
		}
		entries = append(entries, e)
	})
	return entries, err
}

var separators = strings.NewReplacer(";", ",", "\t", ",")

func column(cells []string, name string) int {
	for i, c := range cells {
		if strings.EqualFold(c, name) {
			return i
		}
	}
	return -1
}

func cell(cells []string, i int) string {
	if i < 0 || i >= len(cells) {
		return ""
	}
	return cells[i]
}

// eachLine calls each with every line and what to call it by.
func eachLine(r io.Reader, each func(where, line string)) error {
	scan := bufio.NewScanner(r)
	for n := 1; scan.Scan(); n++ {
		line := scan.Text()
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff") // some programs begin a file with it
		}
		each("line "+strconv.Itoa(n), line)
	}
	return scan.Err()
}

package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// hunt looks for numbers in what a run left behind. Its numbers are fictional ones of
// the USA that stand for real ones, each used for one purpose.
type hunt struct {
	pool  []string
	used  int
	forms []form
}

// form is one way in which a number can be written.
type form struct {
	name  string
	bytes []byte
}

func newHunt(t *testing.T, skipAreas int) *hunt {
	t.Helper()
	return &hunt{pool: fictional(t, skipAreas, 1_000)}
}

// next returns a number not used before, with its plus sign, and hunts it from now on.
func (h *hunt) next(t *testing.T) string {
	t.Helper()
	// Far from one another, so that a cut-off number is not taken for another.
	s := h.pool[h.used*7%len(h.pool)]
	h.used++
	h.add(t, s)
	return s
}

// national writes a number as people of its country do.
func national(s string) string { return fmt.Sprintf("(%s) %s-%s", s[2:5], s[5:8], s[8:]) }

func (h *hunt) add(t *testing.T, s string) {
	t.Helper()
	digits := s[1:]
	n, err := strconv.ParseUint(digits, 10, 64)
	require.NoError(t, err)
	area, office, line := s[2:5], s[5:8], s[8:]
	big, little := make([]byte, 8), make([]byte, 8)
	binary.BigEndian.PutUint64(big, n)
	binary.LittleEndian.PutUint64(little, n) // as Redis packs integers in a listpack
	forms := map[string][]byte{
		"digits": []byte(digits), "national digits": []byte(area + office + line),
		"big endian": big, "little endian": little,
		"hexadecimal": []byte(strconv.FormatUint(n, 16)), "hexadecimal capitals": []byte(strings.ToUpper(strconv.FormatUint(n, 16))),
		"bytes in hexadecimal": []byte(hex.EncodeToString([]byte(digits))),
	}
	for _, sep := range []string{" ", "-", ".", ") "} {
		for _, second := range []string{" ", "-", "."} {
			forms["separated by "+sep+second] = []byte(area + sep + office + second + line)
		}
	}
	// In base64 a text looks different at each of three places; the characters at its
	// ends that mix it with what stands beside it are left out.
	for shift := range 3 {
		text := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + digits))
		forms["base64 at "+strconv.Itoa(shift)] = []byte(text[(shift*8+5)/6 : (shift+len(digits))*8/6])
	}
	for name, b := range forms {
		h.forms = append(h.forms, form{fmt.Sprintf("number %d, %s", h.used, name), b})
	}
}

// find lists which forms of which numbers data holds.
func (h *hunt) find(data []byte) []string {
	var found []string
	for _, f := range h.forms {
		if bytes.Contains(data, f.bytes) {
			found = append(found, f.name)
		}
	}
	return found
}

// findFiles searches every file below dir. It returns what was found, by file, and
// the files searched.
func (h *hunt) findFiles(t *testing.T, dir string) (found map[string][]string, files []string) {
	t.Helper()
	found = map[string][]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files = append(files, name)
		if f := h.find(append(data, path...)); len(f) > 0 {
			found[name] = f
		}
		return nil
	}))
	return found, files
}

package world

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/callmask/callmask/vn"
)

// Table holds every call that must be connected.
type Table struct {
	IDs      IDs
	Bindings []Binding
}

const tableMagic = 0x63616c6c6d61736b

const bindingWords = 5

// Write writes the table for another process of the harness.
func (t *Table) Write(path string) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write the table of calls: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	uuid := uint64(0)
	if t.IDs == UUID {
		uuid = 1
	}
	buf := words(nil, tableMagic, uuid, uint64(len(t.Bindings)))
	for i := range t.Bindings {
		if _, err := w.Write(buf); err != nil {
			return fmt.Errorf("write the table of calls: %w", err)
		}
		b := &t.Bindings[i]
		buf = words(buf[:0], uint64(b.Called), uint64(b.Calling), uint64(b.Destination), uint64(b.CallerID), b.Order)
	}
	if _, err := w.Write(buf); err != nil {
		return fmt.Errorf("write the table of calls: %w", err)
	}
	return w.Flush()
}

func words(dst []byte, values ...uint64) []byte {
	for _, v := range values {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	return dst
}

// ReadTable reads what Write wrote.
func ReadTable(path string) (*Table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the table of calls: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	r := bufio.NewReaderSize(f, 1<<20)
	var head [3 * 8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("read the table of calls: %w", err)
	}
	word := func(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	if word(head[:], 0) != tableMagic {
		return nil, errors.New("read the table of calls: it is none")
	}
	t := &Table{IDs: Short, Bindings: make([]Binding, word(head[:], 2))}
	if word(head[:], 1) == 1 {
		t.IDs = UUID
	}
	var b [bindingWords * 8]byte
	for i := range t.Bindings {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, fmt.Errorf("read the table of calls: %w", err)
		}
		t.Bindings[i] = Binding{
			Called: vn.Number(word(b[:], 0)), Calling: vn.Number(word(b[:], 1)),
			Destination: vn.Number(word(b[:], 2)), CallerID: vn.Number(word(b[:], 3)), Order: word(b[:], 4),
		}
	}
	return t, nil
}

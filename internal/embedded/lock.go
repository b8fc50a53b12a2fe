package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// DirLock is an exclusive hold on a directory. The system drops it when the process
// ends, however it ends; children do not inherit it.
type DirLock struct{ file *os.File }

// ErrLocked means that another process holds the directory.
var ErrLocked = errors.New("is in use by another callmask")

// LockDir creates dir (mode 0700) when there is none and locks it. When another
// process has it, the error wraps ErrLocked and names that process's id.
func LockDir(dir string) (*DirLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	path := filepath.Join(dir, "callmask.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer func() { _ = f.Close() }() // nothing was written
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		who := ""
		if b, err := os.ReadFile(path); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
				who = fmt.Sprintf(" (process %d)", pid)
			}
		}
		return nil, fmt.Errorf("data directory %s %w%s", dir, ErrLocked, who)
	}
	// The id only helps whoever is refused; the lock itself is what counts.
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("writing %s: %w", path, err)
		}
	}
	return &DirLock{file: f}, nil
}

// Unlock gives the directory free. It may be called again.
func (l *DirLock) Unlock() { _ = l.file.Close() } // closing drops the lock; a second close changes nothing

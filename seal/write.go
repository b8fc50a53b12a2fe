package seal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lockWait bounds how long an edit waits for another one. Edits take milliseconds.
const lockWait = 5 * time.Second

// locked runs edit while no other process edits the keyset file at path, which it
// gives with symbolic links resolved. The lock is the operating system's, on a file
// beside the keyset, so a crash leaves no lock behind.
func locked(path string, edit func(path string) error) (err error) {
	switch resolved, err := filepath.EvalSymlinks(path); {
	case err == nil:
		path = resolved // a rename must replace the file, not the link to it
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("keyset file: %w", err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return fmt.Errorf("lock the keyset file: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }() // closing unlocks
	if err := flock(lock, lockWait); err != nil {
		return fmt.Errorf("lock the keyset file %s: %w", path, err)
	}
	return edit(path)
}

// flock locks the file, waiting at most that long for another process. The system call that
// waits by itself could wait for ever.
func flock(lock *os.File, most time.Duration) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(most)
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return err
		}
		select {
		case <-tick.C:
		case <-late:
			return fmt.Errorf("another process has been editing it for %s", most)
		}
	}
}

// writeFile replaces the file at path by f in one step: after a crash at any moment
// there is the old keyset or the new one, whole and on disk.
func writeFile(path string, f *file) error {
	if err := f.check(); err != nil {
		return fmt.Errorf("keyset file %s: %w", path, err)
	}
	raw, err := f.encode()
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write the keyset file: %w", err)
	}
	err = errors.Join(fill(temp, path, raw), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write the keyset file: %w", errors.Join(err, os.Remove(temp.Name())))
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write the keyset file: %w", err)
	}
	return nil
}

// fill makes temp what will stand at path.
func fill(temp *os.File, path string, raw []byte) error {
	if err := temp.Chmod(fileMode); err != nil {
		return err
	}
	if err := keepOwner(path, temp); err != nil {
		return err
	}
	if _, err := temp.Write(raw); err != nil {
		return err
	}
	return temp.Sync()
}

// keepOwner gives temp the owner of the file it will replace: a keyset edited by
// root must stay readable for the user that callmask runs as.
func keepOwner(path string, temp *os.File) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Geteuid() {
		return nil
	}
	return temp.Chown(int(stat.Uid), int(stat.Gid))
}

// syncDir makes a rename in dir last through a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

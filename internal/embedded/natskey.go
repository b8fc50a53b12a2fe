package embedded

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// natsKey returns the store's encryption key, creating the file when neither it nor
// a store exists. A store without its key cannot be read, so that is an error
// rather than a new key.
func natsKey(path, store string) (string, error) {
	key, err := readNATSKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	entries, err := os.ReadDir(store)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("embedded nats store: %w", err)
	}
	if len(entries) > 0 {
		return "", fmt.Errorf("embedded nats key %s is missing but the store %s was encrypted with it; restore the key, or remove the store to start empty", path, store)
	}
	if err := createNATSKey(path); err != nil {
		return "", fmt.Errorf("embedded nats key: %w", err)
	}
	return readNATSKey(path)
}

func readNATSKey(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("embedded nats key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("embedded nats key %s can be read by others (mode %04o); run chmod 600 on it", path, info.Mode().Perm())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("embedded nats key: %w", err)
	}
	key := strings.TrimSpace(string(data))
	if raw, err := base64.StdEncoding.DecodeString(key); err != nil || len(raw) != 32 {
		return "", fmt.Errorf("embedded nats key %s is not 32 bytes in base64; restore it from a backup", path)
	}
	return key, nil
}

// createNATSKey writes a new key in full before the file has its name: a crash
// leaves either no key or a whole one.
func createNATSKey(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".jetstream.key-*") // created with mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(raw[:]) + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Link(f.Name(), path) // fails when somebody else was quicker: theirs is read then
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	err = errors.Join(err, os.Remove(f.Name()))
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

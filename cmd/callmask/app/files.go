package app

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/callmask/callmask/cmd/callmask/settings"
	"github.com/callmask/callmask/internal/embedded"
	"github.com/callmask/callmask/seal"
)

// The files that `all` makes in its data directory when it was not given them.
const (
	TokenFile  = "api-token"
	KeysetFile = "keyset.json"
)

// prepare locks the data directory of `all` and finds the secrets.
func (a *App) prepare(context.Context) error {
	if a.cfg.Role == settings.All {
		lock, err := embedded.LockDir(a.set.DataDir)
		if err != nil {
			return settings.Named("data_dir", err)
		}
		a.onEnd("data directory", func(context.Context) error { lock.Unlock(); return nil })
	}
	if err := a.secrets(); err != nil {
		return err
	}
	var err error
	a.keys, err = a.openKeyset()
	return err
}

// secrets finds the API token and the keyset, for `all` making those not given.
func (a *App) secrets() error {
	a.at.APIToken, a.at.KeysetFile = a.set.APIToken, a.set.Keyset
	if a.at.APIToken == "" {
		path := filepath.Join(a.set.DataDir, TokenFile)
		token, err := ReadToken(path)
		if errors.Is(err, fs.ErrNotExist) {
			token, err = makeToken(a.set.DataDir, path)
		}
		if err != nil {
			return settings.Named("api_token", err)
		}
		a.at.APIToken, a.at.TokenFile = token, path
	}
	if a.at.KeysetFile == "" {
		a.at.KeysetFile = filepath.Join(a.set.DataDir, KeysetFile)
	}
	return nil
}

// openKeyset opens the keyset file; the one of the data directory is made when there
// is no data yet that another one may have sealed.
func (a *App) openKeyset() (*seal.Keyset, error) {
	log := seal.WithLogger(a.log.With().Str("room", "seal").Logger())
	keys, err := seal.Open(a.at.KeysetFile, log)
	if errors.Is(err, fs.ErrNotExist) && a.set.Keyset == "" {
		for _, dir := range []string{"redis/appendonlydir", "jetstream"} {
			if _, err := os.Stat(filepath.Join(a.set.DataDir, dir)); err == nil {
				return nil, settings.Named("keyset", fmt.Errorf("%s is missing, but %s holds data that was sealed with it: restore it from a backup",
					a.at.KeysetFile, a.set.DataDir))
			}
		}
		keys, err = seal.Create(a.at.KeysetFile, log)
	}
	if err != nil {
		return nil, settings.Named("keyset", err)
	}
	return keys, nil
}

// ReadToken reads the API token that `all` left in a file. It refuses a file that
// others may read; a missing one is fs.ErrNotExist.
func ReadToken(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s may be read by others: chmod 600 it", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	if len(token) < 16 {
		return "", fmt.Errorf("%s does not hold a token: delete it to have a new one made", path)
	}
	return token, nil
}

// makeToken writes a new token in one step, so that no crash leaves half of one.
func makeToken(dir, path string) (string, error) {
	var raw [24]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", err
	}
	token := base64.RawURLEncoding.EncodeToString(raw[:])
	f, err := os.CreateTemp(dir, TokenFile+".new-") // mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(token + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return token, nil
}

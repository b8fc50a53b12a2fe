package peers

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

//go:embed node/package.json node/package-lock.json node/server.js
var nodeFiles embed.FS

// npmTime bounds the installation of the two packages.
const npmTime = 2 * time.Minute

// InstallNode puts the Node.js peer and its two packages, in exactly the versions of
// the lock file, into the user's cache, once, and returns the path of its script.
func InstallNode(ctx context.Context) (node, script string, err error) {
	if node, err = exec.LookPath("node"); err != nil {
		return "", "", errors.New("node is not installed")
	}
	sum := sha256.New()
	files := map[string][]byte{}
	for _, name := range []string{"package.json", "package-lock.json", "server.js"} {
		if files[name], err = nodeFiles.ReadFile("node/" + name); err != nil {
			return "", "", err
		}
		sum.Write(files[name])
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", "", err
	}
	dir := filepath.Join(cache, "callmask", "bench-node-"+hex.EncodeToString(sum.Sum(nil)[:8]))
	script = filepath.Join(dir, "server.js")
	if _, err := os.Stat(script); err == nil {
		return node, script, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
		return "", "", err
	}
	// Made aside and moved, so that an interrupted installation leaves nothing half done.
	temp, err := os.MkdirTemp(filepath.Dir(dir), "install-")
	if err != nil {
		return "", "", err
	}
	defer func() { _ = os.RemoveAll(temp) }() // moved away, as a rule
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(temp, name), text, 0o600); err != nil {
			return "", "", err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, npmTime)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = temp
	if out, err := npm.CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("npm ci: %w: %.300s", err, out)
	}
	if err := os.Rename(temp, dir); err != nil {
		if _, there := os.Stat(script); there != nil {
			return "", "", err
		}
	}
	return node, script, nil
}

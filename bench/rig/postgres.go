package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/callmask/callmask/bench/proc"
)

// Postgres is a PostgreSQL server.
type Postgres struct {
	*proc.Child

	DSN string
}

// CPU returns the CPU time that all its processes have used.
func (p *Postgres) CPU(context.Context) (time.Duration, error) {
	u, err := p.Usage()
	return u.CPU, err
}

// Postgres starts a PostgreSQL server with an empty database; an error tells what is
// missing for it. It refuses to run as root, so it is started as another user then.
func (r *Rig) Postgres(ctx context.Context) (*Postgres, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "callmask-bench-postgres-")
	if err != nil {
		return nil, err
	}
	r.dirs = append(r.dirs, dir)
	var uid, gid uint32
	if os.Getuid() == 0 {
		if uid, gid, err = unprivileged(); err != nil {
			return nil, err
		}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			return nil, err
		}
	}
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "--pgdata", data, "--auth", "trust", "--username", "bench", //nolint:gosec // G204: the program that was looked for
		"--no-sync", "--locale", "C", "--encoding", "UTF8")
	initdb.Dir = dir
	if uid != 0 {
		initdb.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	}
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	addr, err := FreeAddr(ctx)
	if err != nil {
		return nil, err
	}
	_, port, _ := strings.Cut(addr, ":")
	child, err := r.starter.Start(ctx, proc.Spec{
		Name: r.name("postgres"), Path: filepath.Join(bin, "postgres"), Dir: dir, UID: uid, GID: gid, Tree: true,
		Args: []string{
			"-D", data, "-p", port, "-k", dir, "-c", "listen_addresses=127.0.0.1", "-c", "shared_buffers=512MB",
			"-c", "max_connections=64", "-c", "fsync=off", "-c", "jit=off", "-c", "autovacuum=off", "-c", "max_wal_size=4GB",
		},
	})
	if err != nil {
		return nil, err
	}
	p := &Postgres{Child: child, DSN: "postgres://bench@" + addr + "/postgres?sslmode=disable"}
	return p, child.Await(ctx, startTime, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, p.DSN)
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}

// postgresBin finds the newest installed version; Debian keeps it out of the path.
func postgresBin() (string, error) {
	if path, err := exec.LookPath("postgres"); err == nil {
		return filepath.Dir(path), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		return "", errors.New("postgresql is not installed")
	}
	version := func(path string) int {
		n, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		if err != nil {
			return 0
		}
		return n
	}
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	return filepath.Dir(found[0]), nil
}

func unprivileged() (uid, gid uint32, err error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		id, errUID := strconv.ParseUint(u.Uid, 10, 32)
		group, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if errUID == nil && errGID == nil {
			return uint32(id), uint32(group), nil
		}
	}
	return 0, 0, errors.New("there is neither a user postgres nor nobody to run PostgreSQL as")
}

package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

const redisPidFile = "redis.pid"

// orphans ends the servers that a killed callmask left behind on dir, whose lock the
// caller holds. A Redis on dir that callmask did not start is an error: two servers
// on one AOF would ruin it.
func orphans(ctx context.Context, dir, conf string, log zerolog.Logger) error {
	for _, pid := range candidates(dir) {
		p, err := os.FindProcess(pid) // holds on to this very process, not to its number
		if err != nil {
			continue // it is gone
		}
		err = adopt(ctx, p, dir, conf, log)
		_ = p.Release() // frees the handle; the process is not ours to wait for
		if err != nil {
			return err
		}
	}
	return nil
}

// candidates lists processes that may be servers on dir: by the pid file, and where
// there is a /proc by their working directory, because a process that was killed
// early may have left no pid file.
func candidates(dir string) []int {
	var pids []int
	if b, err := os.ReadFile(filepath.Join(dir, redisPidFile)); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && pid > 1 {
			pids = append(pids, pid)
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return pids // no such system
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || len(pids) > 0 && pid == pids[0] {
			continue
		}
		if cwd, err := os.Readlink(procPath(pid, "cwd")); err == nil && cwd == dir {
			pids = append(pids, pid)
		}
	}
	return pids
}

func procPath(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}

// adopt ends process p if it is a server that callmask started on dir.
func adopt(ctx context.Context, p *os.Process, dir, conf string, log zerolog.Logger) error {
	if !running(p) {
		return nil
	}
	ours := false
	if _, err := os.Stat("/proc/self/cwd"); err == nil {
		cwd, err := os.Readlink(procPath(p.Pid, "cwd"))
		if err != nil || cwd != dir {
			return nil // the pid file is old and the number belongs to another process now
		}
		comm, err := os.ReadFile(procPath(p.Pid, "comm"))
		if err != nil || !strings.HasPrefix(string(comm), "redis-") && !strings.HasPrefix(string(comm), "valkey-") {
			return nil // somebody's shell in that directory
		}
		cmdline, err := os.ReadFile(procPath(p.Pid, "cmdline"))
		ours = err == nil && strings.Contains(string(cmdline), conf)
	}
	if !ours && !infoNames(ctx, p.Pid, conf) {
		if !running(p) {
			return nil
		}
		if _, err := os.Stat("/proc/self/cwd"); err != nil {
			return nil // nothing but a number says that it could be ours
		}
		return fmt.Errorf("embedded redis: process %d is a Redis on %s that callmask did not start; end it first", p.Pid, dir)
	}
	log.Warn().Int("pid", p.Pid).Msg("ending the redis-server that a killed callmask left behind")
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("embedded redis: ending orphaned process %d: %w", p.Pid, err)
	}
	if gone(ctx, p, orphanWait) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("embedded redis: orphaned process %d is still ending: %w", p.Pid, err)
	}
	log.Error().Int("pid", p.Pid).Msg("the orphaned redis-server does not end: killing it")
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("embedded redis: killing orphaned process %d: %w", p.Pid, err)
	}
	if !gone(ctx, p, orphanWait) {
		return fmt.Errorf("embedded redis: orphaned process %d cannot be ended", p.Pid)
	}
	return nil
}

// orphanWait is how long an orphan may take to write its AOF and end.
const orphanWait = 20 * time.Second

func gone(ctx context.Context, p *os.Process, wait time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for running(p) {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// running tells whether p still does anything. A zombie does not: where nobody
// reaps orphans (process 1 of many containers) it stays for ever.
func running(p *os.Process) bool {
	if err := p.Signal(syscall.Signal(0)); err != nil {
		return false
	}
	stat, err := os.ReadFile(procPath(p.Pid, "stat"))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist) || !procMounted()
	}
	// "pid (name) state …"; the name may hold anything, also ")".
	i := strings.LastIndexByte(string(stat), ')')
	return i < 0 || i+2 >= len(stat) || stat[i+2] != 'Z' && stat[i+2] != 'X'
}

func procMounted() bool {
	_, err := os.Stat("/proc/self/stat")
	return err == nil
}

// infoNames asks the server at conf's address whether it is process pid and reads
// its settings from conf.
func infoNames(ctx context.Context, pid int, conf string) bool {
	text, err := os.ReadFile(conf)
	if err != nil {
		return false
	}
	port, err := strconv.Atoi(confValue(string(text), "port"))
	if err != nil {
		return false
	}
	host := confValue(string(text), "bind")
	if host == "*" {
		host = ""
	}
	info, err := serverInfo(ctx, redisAddr{host: host, port: port}, confValue(string(text), "requirepass"))
	return err == nil && info["process_id"] == strconv.Itoa(pid) && info["config_file"] == conf
}

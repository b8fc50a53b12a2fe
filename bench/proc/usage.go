package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// tick is the unit of CPU times in /proc on Linux, whatever the kernel's own HZ
// (proc(5), sysconf(_SC_CLK_TCK)).
const tick = 10 * time.Millisecond

// Usage is what a process has cost so far.
type Usage struct {
	CPU time.Duration // in user mode and in the kernel
	RSS int64         // resident memory now, bytes
}

// Usage reads what the child, and with Spec.Tree its own children, have cost.
func (c *Child) Usage() (Usage, error) {
	u, ended, _, err := usage(c.Pid())
	if err != nil || !c.tree {
		return u, err
	}
	u.CPU += ended
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return u, fmt.Errorf("list the processes: %w", err)
	}
	for _, path := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		child, _, parent, err := usage(pid)
		if err != nil || parent != c.Pid() {
			continue // ended meanwhile, or somebody else's
		}
		u.CPU += child.CPU
		u.RSS += child.RSS
	}
	return u, nil
}

var errStat = errors.New("/proc/PID/stat is not as proc(5) describes it")

// usage reads /proc/PID/stat: field 4 is the parent, 14 and 15 are user and system
// time, 16 and 17 those of the children that have ended, 24 the resident pages. The command in field 2 may hold anything, so counting
// begins behind its closing bracket.
func usage(pid int) (u Usage, ended time.Duration, parent int, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Usage{}, 0, 0, fmt.Errorf("read what a process costs: %w", err)
	}
	_, rest, ok := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(") "))
	fields := bytes.Fields(rest)
	if !ok || len(fields) < 22 {
		return Usage{}, 0, 0, errStat
	}
	var n [6]int64
	for i, field := range []int{4, 14, 15, 16, 17, 24} {
		if n[i], err = strconv.ParseInt(string(fields[field-3]), 10, 64); err != nil {
			return Usage{}, 0, 0, errStat
		}
	}
	u = Usage{CPU: time.Duration(n[1]+n[2]) * tick, RSS: n[5] * int64(os.Getpagesize())}
	return u, time.Duration(n[3]+n[4]) * tick, int(n[0]), nil
}

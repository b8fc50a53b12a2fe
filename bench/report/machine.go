package report

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Machine says where the figures come from.
type Machine struct {
	CPU      string            `json:"cpu"`
	CPUs     int               `json:"cpus"`
	Memory   string            `json:"memory"`
	Kernel   string            `json:"kernel"`
	System   string            `json:"system"`
	Versions map[string]string `json:"versions"`
}

// ThisMachine describes the machine the harness runs on.
func ThisMachine(ctx context.Context) Machine {
	m := Machine{
		CPU: field("/proc/cpuinfo", "model name"), CPUs: runtime.NumCPU(), Memory: field("/proc/meminfo", "MemTotal"),
		Kernel: strings.TrimSpace(text("/proc/sys/kernel/osrelease")), System: strings.Trim(field("/etc/os-release", "PRETTY_NAME"), `"`),
		Versions: map[string]string{"go": runtime.Version()},
	}
	for name, command := range map[string][]string{
		"redis": {"redis-server", "--version"}, "node": {"node", "--version"}, "postgresql": {"psql", "--version"},
	} {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		out, err := exec.CommandContext(ctx, command[0], command[1:]...).Output() //nolint:gosec // G204: the commands above
		cancel()
		if err == nil {
			m.Versions[name] = strings.TrimSpace(string(out))
		}
	}
	return m
}

func text(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	return string(b)
}

// field reads the value of the first line that begins with name.
func field(path, name string) string {
	for line := range strings.Lines(text(path)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(strings.TrimLeft(rest, " \t:="))
		}
	}
	return "unknown"
}

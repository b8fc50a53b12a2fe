package embedded

import (
	"bytes"
	"regexp"
	"strings"
	"sync"

	"github.com/rs/zerolog"
)

const keptLines = 8

// redisLog takes the child's output line by line into our log and remembers the last
// lines, to explain a child that ended.
type redisLog struct {
	log zerolog.Logger

	mu   sync.Mutex
	part []byte
	last []string
}

// redisLine is "pid:role date time level message"; the level is one of . - * #.
// https://github.com/redis/redis/blob/7.0/src/server.c (serverLogRaw)
var redisLine = regexp.MustCompile(`^\d+:[XCSM] \d+ \w+ \d+ [0-9:.]+ ([.\-*#]) (.*)$`)

// number is what could be a telephone number.
var number = regexp.MustCompile(`\d{7,}`)

// routine are lines at Redis's highest level that announce nothing to act upon.
var routine = []string{"oO0OoO0OoO0Oo", "Redis version=", "Configuration loaded", "User requested shutdown", "Redis is now ready to exit", "Server initialized", "Received SIGTERM"}

func (l *redisLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part = append(l.part, p...)
	for {
		i := bytes.IndexByte(l.part, '\n')
		if i < 0 {
			if len(l.part) > 16<<10 { // no line of Redis is that long
				l.part = l.part[:0]
			}
			return len(p), nil
		}
		l.line(strings.TrimSpace(string(l.part[:i])))
		l.part = l.part[i+1:]
	}
}

func (l *redisLog) line(s string) {
	if s == "" {
		return
	}
	level := zerolog.WarnLevel // what is not in Redis's form is an error of its start
	if m := redisLine.FindStringSubmatch(s); m != nil {
		s = m[2]
		switch m[1] {
		case ".", "-":
			level = zerolog.TraceLevel
		case "*":
			level = zerolog.DebugLevel
		}
	}
	for _, r := range routine {
		if strings.Contains(s, r) {
			level = zerolog.DebugLevel
		}
	}
	s = number.ReplaceAllString(s, "•••")
	if l.last = append(l.last, s); len(l.last) > keptLines {
		l.last = l.last[1:]
	}
	l.log.WithLevel(level).Msg(s)
}

// tail returns the last lines as one.
func (l *redisLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.last, " | ")
}

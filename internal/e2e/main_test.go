package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// binary is the path of the callmask that the tests run.
var binary = os.Getenv("CALLMASK_E2E_BINARY")

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "callmask-e2e-")
	if err == nil && binary == "" {
		binary = filepath.Join(dir, "callmask")
		err = build(binary)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir) // in the system's temporary folder; what stays harms nobody
		os.Exit(code)
	}))
}

// build makes the binary, with the race detector when the tests have it.
func build(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	args := []string{"build", "-o", path}
	if raceDetector() {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "github.com/callmask/callmask/cmd/callmask")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// random returns the test's source of randomness and prints its seed.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("CALLMASK_E2E_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("CALLMASK_E2E_SEED: %v", err)
		}
	}
	t.Logf("seed: CALLMASK_E2E_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// scaled returns n times CALLMASK_E2E_SCALE.
func scaled(t *testing.T, n int) int {
	t.Helper()
	s := os.Getenv("CALLMASK_E2E_SCALE")
	if s == "" {
		return n
	}
	f, err := strconv.ParseFloat(s, 64)
	if err == nil && (f < 0.01 || f > 1) {
		err = errors.New("is not between 0.01 and 1")
	}
	if err != nil {
		t.Fatalf("CALLMASK_E2E_SCALE: %v", err)
	}
	return int(float64(n) * f)
}

// await waits until ok is true and fails the test when it is not within limit.
func await(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	if !eventually(limit, ok) {
		t.Fatalf("not within %s: %s", limit, what)
	}
}

func eventually(limit time.Duration, ok func() bool) bool {
	end := time.NewTimer(limit)
	defer end.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-end.C:
			return ok()
		case <-tick.C:
		}
	}
	return true
}

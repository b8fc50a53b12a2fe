package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/callmask/callmask/internal/cluster"
)

// built is where the binary is built.
var built string

func TestMain(m *testing.M) {
	if cluster.RunNode() {
		return
	}
	dir, err := os.MkdirTemp("", "callmask-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	built = filepath.Join(dir, "callmask")
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir) // in the system's temporary folder; what stays harms nobody
		os.Exit(code)
	}))
}

// executable builds callmask once, with the race detector when the tests have it, and
// returns its path.
var executable = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("CALLMASK_E2E_BINARY"); path != "" {
		return path, nil
	}
	return built, build(built, "cmd/callmask")
})

// build builds a program of ours, with the race detector when the tests have it.
func build(path, program string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	args := []string{"build", "-o", path}
	if raceDetector {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "github.com/callmask/callmask/"+program)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
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

// scaled returns n times CALLMASK_E2E_SCALE; where that is not set, times what the
// build with or without the race detector can do in a minute or two.
func scaled(t *testing.T, n int) int {
	t.Helper()
	s := os.Getenv("CALLMASK_E2E_SCALE")
	if s == "" {
		return n / slowness
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

package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
)

// loopback is where all nodes listen.
const loopback = "127.0.0.1"

// FreePorts returns n different ports of the loopback on which nobody listened a moment
// ago, from below those that the system gives to outgoing connections: none of these
// can take one while its node is down.
func FreePorts(ctx context.Context, n int) ([]int, error) {
	var (
		lc    net.ListenConfig
		ports []int
	)
	for try := 0; len(ports) < n; try++ {
		if try > 100*n {
			return nil, errors.New("no free port of the loopback between 12000 and 32000")
		}
		port := 12_000 + rand.IntN(20_000) //nolint:gosec // not a secret
		l, err := lc.Listen(ctx, "tcp", addr(port))
		if err != nil {
			continue // somebody has it: the next
		}
		defer func() { _ = l.Close() }() // held until all are found, so that no two are the same
		ports = append(ports, port)
	}
	return ports, nil
}

func addr(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

// portTaken tells whether a process ended because somebody took its port after it was
// found free.
func portTaken(err error) bool {
	return err != nil && strings.Contains(strings.ToLower(err.Error()), "address already in use")
}

// tries is how often a start with other ports is tried.
const tries = 5

// withPorts calls start with n free ports, with others when one was taken meanwhile.
func withPorts(ctx context.Context, n int, start func(ports []int) error) error {
	for try := 1; ; try++ {
		ports, err := FreePorts(ctx, n)
		if err != nil {
			return err
		}
		if err = start(ports); !portTaken(err) || try == tries {
			if portTaken(err) {
				err = fmt.Errorf("after %d tries: %w", tries, err)
			}
			return err
		}
	}
}

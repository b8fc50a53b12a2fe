package cluster_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/callmask/callmask/internal/cluster"
)

func TestMain(m *testing.M) {
	if cluster.RunNode() {
		return
	}
	goleak.VerifyTestMain(m)
}

//go:build !race

package e2e

import "testing"

const (
	raceDetector = false
	slowness     = 1
)

func TestSixteenAllocatorsNeverGiveAVNToTwoOrdersNorAnOrderTwoAssignments(t *testing.T) {
	t.Parallel()
	testSixteenAllocators(t)
}

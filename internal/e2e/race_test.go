//go:build race

package e2e

import "testing"

const (
	raceDetector = true
	slowness     = 4
)

func TestSixteenAllocatorsNeverGiveAVNToTwoOrdersNorAnOrderTwoAssignments(t *testing.T) {
	t.Parallel()
	testSixteenAllocators(t)
}

package scripts

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/callmask/callmask/internal/testkit"
)

// storeCases are the promises that hold on every kind of Redis.
var storeCases = []struct {
	name string
	test func(*testing.T, *fixture)
}{
	{"GoldenKeyStates", testGoldenKeyStates},
	{"GoldenExpiry", testGoldenExpiry},
	{"EachPartyReachesTheOthersThroughTheirVNs", testEachPartyReachesTheOthersThroughTheirVNs},
	{"AMissIsToldApart", testAMissIsToldApart},
	{"AllocateTwiceGivesTheSameVNs", testAllocateTwiceGivesTheSameVNs},
	{"AnOrderGetsAllItsVNsOrNone", testAnOrderGetsAllItsVNsOrNone},
	{"ALapsedOrderHasEndedForEveryVerb", testALapsedOrderHasEndedForEveryVerb},
	{"APoolRecoversWithNoReaperAlive", testAPoolRecoversWithNoReaperAlive},
	{"ALateEventChangesNothing", testALateEventChangesNothing},
	{"AnUnsettledReleaseComesBack", testAnUnsettledReleaseComesBack},
	{"AVNDrainedWhileItsReleaseIsUnsettledStaysRetired", testAVNDrainedWhileItsReleaseIsUnsettledStaysRetired},
	{"AColdPartitionNeitherAllocatesNorTakesNumbers", testAColdPartitionNeitherAllocatesNorTakesNumbers},
	{"AServerThatHasLostAChangeKeepsNoFenceOfIt", testAServerThatHasLostAChangeKeepsNoFenceOfIt},
	{"RefillLeavesForeignNumbersAloneAndUndoesADrain", testRefillLeavesForeignNumbersAloneAndUndoesADrain},
	{"OnlyAFreeVNLeavesByDrainFree", testOnlyAFreeVNLeavesByDrainFree},
	{"TheInventoryOfACarrierIsRead", testTheInventoryOfACarrierIsRead},
	{"ExplainTellsWhatADecisionRestsOn", testExplainTellsWhatADecisionRestsOn},
	{"ExplainOfALeaseThatHasRunOut", testExplainOfALeaseThatHasRunOut},
	{"TheClockIsThatOfRedis", testTheClockIsThatOfRedis},
	{"ScriptsSurviveAScriptFlush", testScriptsSurviveAScriptFlush},
	{"ConcurrentAllocationsNeverShareAVN", testConcurrentAllocationsNeverShareAVN},
	{"OrdersUnderAKeyAreCountedUntilTheirTombstonesAreGone", testOrdersUnderAKeyAreCountedUntilTheirTombstonesAreGone},
	{"AuditCountsEveryVNOfAHealthyRedis", testAuditCountsEveryVNOfAHealthyRedis},
	{"HoldingTellsWhatTheLedgerIsHeldAgainst", testHoldingTellsWhatTheLedgerIsHeldAgainst},
}

// TestStore runs every case on a Redis of its own, and on a Redis Cluster, where
// `#!lua` makes the server refuse a key of a foreign slot.
func TestStore(t *testing.T) {
	t.Parallel()
	t.Run("single", func(t *testing.T) {
		t.Parallel()
		for _, c := range storeCases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.test(t, newFixture(t, testkit.Redis(t).Client(t)))
			})
		}
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		cluster := testkit.RedisCluster(t)
		for _, c := range storeCases {
			t.Run(c.name, func(t *testing.T) {
				for _, node := range masters(t, cluster) {
					require.NoError(t, node.FlushAll(t.Context()).Err())
				}
				c.test(t, newFixture(t, cluster))
			})
		}
	})
}

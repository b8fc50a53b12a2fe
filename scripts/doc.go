// Package scripts is the whole Redis contract of callmask: the Lua scripts, the key
// builders, the packed binding and Store, which has a method per verb.
//
//	allocator   ─▶ Allocate Settle Release Extend ─┐
//	replenisher ─▶ Refill Reap Drain Stock        ─┼─▶ one Lua script each ─▶ one partition
//	router      ─▶ Lookup: one plain HGET         ─┘
//
// Each script in lua/ opens with its contract; README.md renders them. Keys and
// members hold digits without a plus sign; {t} is the tag of a partition:
//
//	cm1:layout                         HASH  schema, partitions
//	cm1:{t}:meta                       HASH  ready "1"; clock, the latest time seen, ms; changes, of the inventory;
//	                                         whole_on, the server on which it was last made what the ledger says
//	cm1:{t}:free:<pool>:<carrier>      SET   free VNs
//	cm1:{t}:cooling:<pool>:<carrier>   ZSET  VN → reusable at, ms
//	cm1:{t}:draining:<pool>:<carrier>  SET   leased VNs that will not come back
//	cm1:{t}:inventory                  HASH  VN → "<pool> <carrier> <fence> <carrier's id, if not the VN>"
//	cm1:{t}:total                      HASH  <pool>:<carrier> → count
//	cm1:{t}:vn:<VN>                    HASH  caller token → packed binding (binding.go); expires at the lease end
//	cm1:{t}:ended:<VN>                 HASH  caller token → "<reason> <end, ms> <carrier's byte> <order id>"
//	cm1:{t}:order:<id>                 HASH  live: terms "<pool> <carrier> <carrier's byte> <key id> <cool-down>", roles, tokens,
//	                                         numbers, fences, end, settled ("restored": from the ledger, and the apps
//	                                         may not have been told); a tombstone has state ended, reason, lease and
//	                                         retired too and neither roles nor tokens; times and durations in ms. Where the
//	                                         partition had too few VNs: state forwarded, mark and at (the order's own), or
//	                                         state refused and mark (another); lib_spill.lua
//	cm1:{t}:leases                     ZSET  order id → lease end, ms; of an ended order not settled yet: due again at, ms
//	cm1:{t}:~                          guard key: never exists
package scripts

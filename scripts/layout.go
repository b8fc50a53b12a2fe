package scripts

import (
	"hash/fnv"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/callmask/callmask/vn"
)

// Schema is the version of the key schema, kept in cm1:layout.
const Schema = 1

// layoutKey is the one key without a tag.
const layoutKey = "cm1:layout"

const maxPartitions = 1024

// defaultPartitions is the number of partitions of a Redis that holds no data yet.
func defaultPartitions(client redis.UniversalClient) int {
	if _, cluster := client.(*redis.ClusterClient); cluster {
		return 16
	}
	return 1
}

// slots is the number of hash slots of a Redis Cluster.
const slots = 16384

// layout knows the key prefix of every partition. A prefix is "cm1:{tag}:".
type layout struct{ prefixes []string }

// newLayout spaces the slots of n partitions evenly: partition i of n lies in slot
// i*16384/n + 8192/n. Its tag is the smallest decimal number whose hash slot that
// is, so the tags are the same everywhere and for ever.
func newLayout(n int) *layout {
	wanted := make(map[int]int, n)
	for i := range n {
		wanted[(i*slots+slots/2)/n] = i
	}
	l := &layout{prefixes: make([]string, n)}
	for k := 0; len(wanted) > 0; k++ {
		tag := strconv.Itoa(k)
		slot := int(crc16(tag)) % slots
		if i, ok := wanted[slot]; ok {
			l.prefixes[i] = "cm1:{" + tag + "}:"
			delete(wanted, slot)
		}
	}
	return l
}

// home is the partition that an order belongs to.
func (l *layout) home(orderID string) int {
	h := fnv.New64a()
	_, _ = h.Write([]byte(orderID))
	return int(h.Sum64() % uint64(len(l.prefixes)))
}

// partitionOfVN is the partition that a VN belongs to.
func (l *layout) partitionOfVN(n vn.Number) int {
	if len(l.prefixes) == 1 {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write(n.AppendDigits(make([]byte, 0, vn.MaxDigits)))
	return int(h.Sum64() % uint64(len(l.prefixes)))
}

// FittingPartitions returns the largest number of partitions with which the VNs of each
// order lie in one partition, as Allocate takes them. It is at least 1.
func FittingPartitions(orders [][]vn.Number) int {
	for n := maxPartitions; n > 1; n-- {
		l := &layout{prefixes: make([]string, n)}
		if !slices.ContainsFunc(orders, func(vns []vn.Number) bool {
			return slices.ContainsFunc(vns, func(v vn.Number) bool { return l.partitionOfVN(v) != l.partitionOfVN(vns[0]) })
		}) {
			return n
		}
	}
	return 1
}

func (l *layout) ofVN(n vn.Number) string { return l.prefixes[l.partitionOfVN(n)] }

// crc16 is the checksum that Redis Cluster takes hash slots from (CRC-16/XMODEM,
// Redis Cluster specification, appendix A).
func crc16(s string) uint16 {
	var crc uint16
	for i := range len(s) {
		crc ^= uint16(s[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// The key builders. p is a partition's prefix.
func guardKey(p string) string     { return p + "~" }
func metaKey(p string) string      { return p + "meta" }
func inventoryKey(p string) string { return p + "inventory" }
func totalKey(p string) string     { return p + "total" }
func leasesKey(p string) string    { return p + "leases" }
func orderKey(p, id string) string { return p + "order:" + id }

func freeKey(p, pool, carrier string) string     { return p + "free:" + pool + ":" + carrier }
func coolingKey(p, pool, carrier string) string  { return p + "cooling:" + pool + ":" + carrier }
func drainingKey(p, pool, carrier string) string { return p + "draining:" + pool + ":" + carrier }

func appendVNKey(dst []byte, p string, n vn.Number) []byte {
	return n.AppendDigits(append(append(dst, p...), "vn:"...))
}

func vnKey(p string, n vn.Number) string    { return p + "vn:" + n.Digits() }
func endedKey(p string, n vn.Number) string { return p + "ended:" + n.Digits() }

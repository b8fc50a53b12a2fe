package scripts

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// PartitionServer tells which server has a partition.
type PartitionServer struct {
	Partition int
	// Server names the run of a server and its line of replication: it is another one after
	// each restart, failover and move of the partition.
	Server  string
	WholeOn string // the Server on which the partition was last made what the ledger says
	Ready   bool   // see Ready
}

// Servers tells which server has each partition. Those that do not answer are left out,
// and their errors returned beside the others.
func (s *Store) Servers(ctx context.Context) ([]PartitionServer, error) {
	list := make([]PartitionServer, len(s.layout.prefixes))
	err := s.eachPartition(ctx, func(ctx context.Context, i int) error {
		key := metaKey(s.layout.prefixes[i])
		node, err := s.masterOf(ctx, key)
		if err != nil {
			return unavailable(err)
		}
		var info *redis.StringCmd
		var meta *redis.SliceCmd
		_, err = node.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			info = pipe.Info(ctx, "server", "replication")
			meta = pipe.HMGet(ctx, key, "ready", "whole_on")
			return nil
		})
		if err != nil {
			return fmt.Errorf("read which server has it: %w", unavailable(err))
		}
		values := reply(meta.Val())
		list[i] = PartitionServer{
			Partition: i, Ready: values.string(0) == "1", WholeOn: values.string(1),
			Server: infoField(info.Val(), "run_id") + ":" + infoField(info.Val(), "master_replid"),
		}
		return nil
	})
	var known []PartitionServer
	for _, p := range list {
		if p.Server != "" {
			known = append(known, p)
		}
	}
	return known, err
}

func (s *Store) masterOf(ctx context.Context, key string) (redis.UniversalClient, error) {
	if cluster, ok := s.client.(*redis.ClusterClient); ok {
		return cluster.MasterForKey(ctx, key)
	}
	return s.client, nil
}

// MarkWhole notes that partitions are what the ledger says, on the servers that had them
// before they were made so.
func (s *Store) MarkWhole(ctx context.Context, servers []PartitionServer) error {
	var errs []error
	for _, p := range servers {
		bound, cancel := s.bound(ctx)
		err := s.client.HSet(bound, metaKey(s.layout.prefixes[p.Partition]), "whole_on", p.Server).Err()
		cancel()
		if err != nil {
			errs = append(errs, fmt.Errorf("mark partition %d whole: %w", p.Partition, unavailable(err)))
		}
	}
	return errors.Join(errs...)
}

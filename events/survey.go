package events

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// StreamState is what the server tells of one of our streams.
type StreamState struct {
	Name     string
	Missing  bool
	Problem  string // why callmask would not start with it; empty when it would
	Replicas int
	Wanted   int // replicas that it should have
	Behind   int // copies that are offline or not up to date
	Bytes    uint64
}

// Survey is the state of NATS as an operator wants to know it.
type Survey struct {
	Server    string // its name
	Version   string
	Cluster   string // its name; empty for a single server
	JetStream bool
	Streams   []StreamState
	Ahead     time.Duration // the server's clock before ours; 0 when no stream tells
	Used      uint64        // bytes on disk of the account
	Most      int64         // that it may use; not positive: no limit
}

// Survey asks for the state of the server and of all streams. It changes nothing.
func (b *Bus) Survey(ctx context.Context) (Survey, error) {
	out := Survey{Server: b.nc.ConnectedServerName(), Version: b.nc.ConnectedServerVersion(), Cluster: b.nc.ConnectedClusterName()}
	account, cancel := b.deadline(ctx)
	info, err := b.js.AccountInfo(account)
	cancel()
	if errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
		return out, nil
	}
	if err != nil {
		return out, failed("asking for the state of JetStream", err)
	}
	out.JetStream, out.Used, out.Most = true, info.Store, info.Limits.MaxStore
	for _, want := range b.streams(b.replicas()) {
		s, err := b.survey(ctx, want, &out.Ahead)
		if err != nil {
			return out, err
		}
		out.Streams = append(out.Streams, s)
	}
	return out, nil
}

func (b *Bus) survey(ctx context.Context, want jetstream.StreamConfig, ahead *time.Duration) (StreamState, error) {
	out := StreamState{Name: want.Name, Wanted: want.Replicas}
	ctx, cancel := b.deadline(ctx)
	defer cancel()
	began := time.Now()
	stream, err := b.js.Stream(ctx, want.Name)
	took := time.Since(began)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		out.Missing = true
		return out, nil
	}
	if err != nil {
		return out, failed("looking at stream "+want.Name, err)
	}
	info := stream.CachedInfo()
	if !info.TimeStamp.IsZero() {
		*ahead = info.TimeStamp.Sub(began.Add(took / 2))
	}
	out.Replicas, out.Bytes = info.Config.Replicas, info.State.Bytes
	if err := b.checkStream(want, info.Config); err != nil {
		out.Problem = err.Error()
	}
	if info.Cluster != nil {
		for _, peer := range info.Cluster.Replicas {
			if peer.Offline || !peer.Current {
				out.Behind++
			}
		}
	}
	return out, nil
}

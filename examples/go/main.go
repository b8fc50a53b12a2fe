// Command go publishes an order to callmask, waits for its numbers, and completes it.
//
//	orders.assigned ──▶ callmask ──▶ vn.assigned    show each party the other's number
//	orders.completed ─▶ callmask ──▶ vn.released    forget them
//
// NATS_URL says where NATS is (nats://127.0.0.1:4222), POOL and ORDER_ID what to order.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type event struct {
	OrderID string `json:"order_id"`
	Reason  string `json:"reason"`
	Parties []struct {
		Role string `json:"role"`
		VN   string `json:"vn"`
	} `json:"parties"`
}

func run(ctx context.Context) error {
	nc, err := nats.Connect(cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	// A durable consumer goes on where it stopped: nothing is missed while the app is down.
	consumer, err := js.CreateOrUpdateConsumer(ctx, "VN", jetstream.ConsumerConfig{
		Durable: "example-go", FilterSubject: "vn.>", DeliverPolicy: jetstream.DeliverNewPolicy, AckPolicy: jetstream.AckExplicitPolicy,
	})
	if err != nil {
		return err
	}
	id := cmp.Or(os.Getenv("ORDER_ID"), "go-"+strconv.FormatInt(time.Now().UnixMilli(), 10))
	// The message id makes a repeat of this publish harmless.
	order := fmt.Sprintf(`{"order_id":%q,"pool":%q,"parties":[{"role":"customer","number":"+12025550123"},{"role":"agent","number":"+12025550145"}]}`,
		id, cmp.Or(os.Getenv("POOL"), "demo"))
	if _, err := js.Publish(ctx, "orders.assigned", []byte(order), jetstream.WithMsgID("assigned:"+id)); err != nil {
		return err
	}
	for {
		msg, err := consumer.Next(jetstream.FetchContext(ctx))
		if err != nil {
			return err
		}
		var e event
		if err := json.Unmarshal(msg.Data(), &e); err != nil {
			return err
		}
		if e.OrderID == id {
			done, err := handle(ctx, js, msg.Subject(), &e)
			if done || err != nil {
				return errors.Join(err, msg.DoubleAck(ctx))
			}
		}
		// Delivery is at least once: acknowledge when the work is done, and bear a repeat.
		if err := msg.Ack(); err != nil {
			return err
		}
	}
}

func handle(ctx context.Context, js jetstream.JetStream, subject string, e *event) (done bool, err error) {
	switch strings.TrimPrefix(subject, "vn.") {
	case "assigned":
		for _, p := range e.Parties {
			fmt.Printf("to reach the %s the others dial %s\n", p.Role, p.VN)
		}
		_, err := js.Publish(ctx, "orders.completed", fmt.Appendf(nil, `{"order_id":%q}`, e.OrderID), jetstream.WithMsgID("completed:"+e.OrderID))
		return false, err
	case "released":
		fmt.Println("released:", e.Reason)
		return true, nil
	default:
		return true, fmt.Errorf("%s: %s", subject, e.Reason)
	}
}

package peers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/callmask/callmask/bench/world"
	"github.com/callmask/callmask/seal"
)

// postgresConns suits two to four processors; more make PostgreSQL slower.
const postgresConns = 16

// postgresTimeout is long: an end of patience would cost pgx the connection.
const postgresTimeout = time.Second

func newPostgres(ctx context.Context, cfg Config) (http.Handler, func(), error) {
	keys, err := seal.Open(cfg.Keyset)
	if err != nil {
		return nil, nil, err
	}
	pc, err := pgxpool.ParseConfig(cfg.DSN)
	if err != nil {
		return nil, nil, fmt.Errorf("postgresql: %w", err)
	}
	pc.MaxConns, pc.MinConns = postgresConns, postgresConns
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, nil, fmt.Errorf("postgresql: %w", err)
	}
	get := func(ctx context.Context, key string, token seal.Token) ([]byte, error) {
		number, err := strconv.ParseInt(key, 10, 64)
		if err != nil {
			return nil, err
		}
		var packed []byte
		err = pool.QueryRow(ctx, "SELECT packed FROM binding WHERE vn = $1 AND caller = $2", number, token[:]).Scan(&packed)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, errNoBinding
		}
		return packed, err
	}
	return newStd("", keys, postgresTimeout, get), pool.Close, nil
}

// FillPostgres copies the bindings of the table from Redis, byte for byte, into the
// table `binding` and makes its index.
func FillPostgres(ctx context.Context, dsn string, client *redis.Client, prefix string, t *world.Table) (err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("postgresql: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	for _, sql := range []string{
		"CREATE UNLOGGED TABLE binding (vn bigint NOT NULL, caller bytea NOT NULL, packed bytea NOT NULL)", "",
		"ALTER TABLE binding ADD PRIMARY KEY (vn, caller)",
		"VACUUM ANALYZE binding",
	} {
		if sql == "" {
			_, err = conn.CopyFrom(ctx, pgx.Identifier{"binding"}, []string{"vn", "caller", "packed"},
				&rows{ctx: ctx, client: client, prefix: prefix, table: t})
		} else {
			_, err = conn.Exec(ctx, sql)
		}
		if err != nil {
			return fmt.Errorf("fill postgresql: %w", err)
		}
	}
	return nil
}

// rows reads the bindings of a table from Redis, many at a time.
type rows struct {
	ctx    context.Context //nolint:containedctx // pgx.CopyFromSource has no place for it
	client *redis.Client
	prefix string
	table  *world.Table
	next   int
	ready  [][]any
	now    []any
	err    error
}

const rowsAtOnce = 1000

// Next implements pgx.CopyFromSource.
func (r *rows) Next() bool {
	if len(r.ready) == 0 && r.err == nil && r.next < len(r.table.Bindings) {
		r.err = r.read()
	}
	if r.err != nil || len(r.ready) == 0 {
		return false
	}
	r.now, r.ready = r.ready[0], r.ready[1:]
	return true
}

// Values implements pgx.CopyFromSource.
func (r *rows) Values() ([]any, error) { return r.now, nil }

// Err implements pgx.CopyFromSource.
func (r *rows) Err() error { return r.err }

func (r *rows) read() error {
	part := r.table.Bindings[r.next:min(r.next+rowsAtOnce, len(r.table.Bindings))]
	r.next += len(part)
	pipe := r.client.Pipeline()
	reads := make([]*redis.MapStringStringCmd, len(part))
	for i := range part {
		reads[i] = pipe.HGetAll(r.ctx, r.prefix+part[i].Called.Digits())
	}
	if _, err := pipe.Exec(r.ctx); err != nil {
		return err
	}
	for i := range part {
		for token, packed := range reads[i].Val() {
			r.ready = append(r.ready, []any{int64(part[i].Called), []byte(token), []byte(packed)})
		}
	}
	return nil
}

// KeyPrefix finds what stands before the digits in the keys of the bindings.
func KeyPrefix(ctx context.Context, client *redis.Client, t *world.Table) (string, error) {
	digits := t.Bindings[0].Called.Digits()
	for cursor := uint64(0); ; {
		keys, next, err := client.Scan(ctx, cursor, "cm1:{*}:vn:"+digits, 10_000).Result()
		if err != nil {
			return "", err
		}
		if len(keys) > 0 {
			return strings.TrimSuffix(keys[0], digits), nil
		}
		if cursor = next; cursor == 0 {
			return "", errors.New("redis holds no binding of the table")
		}
	}
}

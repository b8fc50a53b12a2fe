#!lua flags=allow-oom
-- reap: end the orders whose lease has run out, bring back those that were ended but
-- never settled, and move VNs that have rested to the free ones.
--
-- KEYS[1] guard      {t}:~       never exists
-- KEYS[2] meta       {t}:meta    HASH
-- KEYS[3] leases     {t}:leases  ZSET
-- KEYS[4] total      {t}:total   HASH
-- ARGV[1] limit      most orders, and VNs of each pool and carrier, in one call
-- ARGV[2] tombstone  how long the tombstones stay, ms
-- ARGV[3] again      after how long an order returned here is due again, unless settled, ms
-- TOUCHES {t}:order:<id> {t}:vn:<VN> {t}:ended:<VN> of the orders ended; {t}:inventory
-- TOUCHES {t}:free:<pool>:<carrier> {t}:cooling:<pool>:<carrier> {t}:draining:<pool>:<carrier> of all pools
-- RETURNS {1 more is due, 0 not, {id, {order hash...}, ...}}
-- include lib_clock.lua
-- include lib_order.lua
local _, meta, leases, total = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local limit, tombstone, again = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local prefix, ended, now, seen = prefix_of(meta), {}, clock(meta)
local due = redis.call('ZRANGE', leases, '-inf', ms(now), 'BYSCORE', 'LIMIT', 0, limit)
for _, id in ipairs(due) do
  local key = prefix .. 'order:' .. id
  local order = load_order(key)
  if order.state ~= 'active' and order.settled ~= '0' then
    redis.call('ZREM', leases, id)
  elseif order.state == 'active' and not lapsed(order, now) then
    redis.call('ZADD', leases, order['end'], id)
  else
    if order.state == 'active' then
      end_order(prefix, now, id, order, 'expired', tombstone)
    end
    redis.call('ZADD', leases, ms(now + again), id)
    ended[#ended + 1] = id
    ended[#ended + 1] = redis.call('HGETALL', key)
  end
end
if #ended > 0 then keep_clock(meta, now, seen) end
local more = #due == limit
for _, where in ipairs(redis.call('HKEYS', total)) do
  local cooling = prefix .. 'cooling:' .. where
  local rested = redis.call('ZRANGE', cooling, '-inf', ms(now), 'BYSCORE', 'LIMIT', 0, limit)
  if #rested > 0 then
    redis.call('ZREM', cooling, unpack(rested))
    redis.call('SADD', prefix .. 'free:' .. where, unpack(rested))
    more = more or #rested == limit
  end
end
return {more and 1 or 0, ended}

#!lua
-- allocate: give an order one VN per party, all of one carrier, all or none, once.
--
-- KEYS[1] guard      {t}:~                        never exists
-- KEYS[2] meta       {t}:meta                     HASH
-- KEYS[3] order      {t}:order:<id>               HASH
-- KEYS[4] leases     {t}:leases                   ZSET
-- KEYS[5] inventory  {t}:inventory                HASH
-- KEYS[6+] free      {t}:free:<pool>:<carrier>    SET, then
-- KEYS[7+] cooling   {t}:cooling:<pool>:<carrier> ZSET, a pair for each carrier, the preferred first
-- ARGV[1] id         the order's id
-- ARGV[2] pool       its pool
-- ARGV[3] ttl        how long the lease lasts, ms
-- ARGV[4] cooldown   how long its VNs rest afterwards, ms
-- ARGV[5] key        id of the key that made the tokens
-- ARGV[6] roles      by party, joined by commas
-- ARGV[7] tokens     by party, 16 bytes each, joined
-- ARGV[8] mark       in another partition: the mark that points here; in the order's own: the one found refused, or 0
-- ARGV[9] next       in another partition: here; in the order's own: which one to point to if too few are here, or -
-- ARGV[10] tombstone how long a mark outlives the lease, ms
-- ARGV[11] lost      VNs that another order has in the ledger, joined by commas
-- ARGV[12] won       VN and fence of those that the order had beside them, joined by commas
-- ARGV[13+] carrier  name, then
-- ARGV[14+] carrier_id  0-255, a pair for each carrier; then the packed bindings
-- without carrier, lease end and VN: for each party called, one for each party calling
-- TOUCHES {t}:vn:<VN> of the VNs taken or forgotten; of the latter {t}:cooling {t}:draining {t}:total as well
-- RETURNS {1 ALLOCATED, lease end ms, carrier, VNs left, {VN...}, {inventory entry...}}
-- RETURNS {2 REPLAYED, {order hash...}}  {3 ENDED, {order hash...}}  {4 EXHAUSTED, VNs left}  {5 COLD}
-- RETURNS {6 FORWARDED, mark, partition}: the order is, or is to be, in that partition
-- include lib_clock.lua
-- include lib_order.lua
-- include lib_forget.lua
-- include lib_spill.lua
-- include lib_take.lua
local _, meta, order, leases, inventory = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, pool, ttl, cooldown, key, roles, tokens, mark, next, tombstone, lost, won = unpack(ARGV, 1, 12)
if redis.call('HGET', meta, 'ready') ~= '1' then return {5} end
local now, seen = clock(meta)
local held, flat = load_order(order)
if held.state == 'active' and lost ~= '' and holds_any(held, lost) then
  forget(prefix_of(meta), now, id, held, won)
  held = {}
end
if held.state == 'active' or held.state == 'ended' then
  local live = held.state == 'active' and not lapsed(held, now)
  return {live and 2 or 3, flat}
end
if held.state == 'forwarded' and held.mark ~= mark then return {6, held.mark, held.at} end

local parties, carriers = #tokens / 16, (#KEYS - 5) / 2
local left, chosen = 0, nil
for c = 1, carriers do
  local have = redis.call('SCARD', KEYS[4 + 2 * c]) + redis.call('ZCOUNT', KEYS[5 + 2 * c], '-inf', ms(now))
  left = left + have
  if have >= parties then chosen = chosen or c end
end
if next == 'here' and refused(held, mark, now) then chosen = nil end
if not chosen then
  if next == 'here' then refuse(order, held, mark, now)
  elseif next == '-' and held.state then give_up(order, now) end
  if next == 'here' or next == '-' then return {4, left} end
  keep_clock(meta, now, seen)
  return {6, forward(order, held, now, next, ttl + tombstone), next}
end

local carrier, carrier_id = ARGV[11 + 2 * chosen], ARGV[12 + 2 * chosen]
local numbers = take(KEYS[4 + 2 * chosen], KEYS[5 + 2 * chosen], now, parties)
local entries, fences = redis.call('HMGET', inventory, unpack(numbers)), {}
local lease_end = ms(now + ttl)
bind(prefix_of(meta), numbers, tokens, carrier_id, lease_end, 12 + 2 * carriers)
for called = 1, parties do
  fences[called] = string.match(entries[called] or '', '^%S+ %S+ (%d+)') or '0'
end
if held.state then redis.call('DEL', order) end
redis.call('HSET', order, 'terms', table.concat({pool, carrier, carrier_id, key, cooldown}, ' '), 'roles', roles,
  'tokens', tokens, 'numbers', table.concat(numbers, ','), 'fences', table.concat(fences, ','),
  'end', lease_end, 'settled', '0')
redis.call('ZADD', leases, lease_end, id)
keep_clock(meta, now, seen)
return {1, lease_end, carrier, left - parties, numbers, entries}

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
-- ARGV[8+] carrier   name, then
-- ARGV[9+] carrier_id  0-255, a pair for each carrier; then the packed bindings
-- without carrier, lease end and VN: for each party called, one for each party calling
-- TOUCHES {t}:vn:<VN> of the VNs taken (names known once they are)
-- RETURNS {1 ALLOCATED, lease end ms, carrier, VNs left, {VN...}, {inventory entry...}}
-- RETURNS {2 REPLAYED, {order hash...}}  {3 ENDED, {order hash...}}  {4 EXHAUSTED, VNs left}  {5 COLD}
-- include lib_clock.lua
-- include lib_order.lua
local _, meta, order, leases, inventory = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, pool, ttl, cooldown, key, roles, tokens = unpack(ARGV, 1, 7)
if redis.call('HGET', meta, 'ready') ~= '1' then return {5} end
local now, seen = clock(meta)
local held, flat = load_order(order)
if held.state then
  local live = held.state == 'active' and not lapsed(held, now)
  return {live and 2 or 3, flat}
end

local parties, carriers = #tokens / 16, (#KEYS - 5) / 2
local left, chosen = 0, nil
for c = 1, carriers do
  local have = redis.call('SCARD', KEYS[4 + 2 * c]) + redis.call('ZCOUNT', KEYS[5 + 2 * c], '-inf', ms(now))
  left = left + have
  if have >= parties then chosen = chosen or c end
end
if not chosen then return {4, left} end

local carrier, carrier_id = ARGV[6 + 2 * chosen], ARGV[7 + 2 * chosen]
local cooling = KEYS[5 + 2 * chosen]
local numbers = redis.call('SPOP', KEYS[4 + 2 * chosen], parties)
if #numbers < parties then
  for _, number in ipairs(redis.call('ZRANGE', cooling, '-inf', ms(now), 'BYSCORE', 'LIMIT', 0, parties - #numbers)) do
    redis.call('ZREM', cooling, number)
    numbers[#numbers + 1] = number
  end
end
local entries, fences = redis.call('HMGET', inventory, unpack(numbers)), {}
local lease_end = ms(now + ttl)
local carrier_byte, seconds = struct.pack('B', carrier_id), struct.pack('>I4', math.ceil(lease_end / 1000))
local template, bindings = 7 + 2 * carriers, {}
for called = 1, parties do bindings[called] = prefix_of(meta) .. 'vn:' .. numbers[called] end
redis.call('DEL', unpack(bindings))
for called = 1, parties do
  local fields = {}
  for calling = 1, parties do
    if calling ~= called then
      template = template + 1
      local packed = ARGV[template]
      fields[#fields + 1] = string.sub(tokens, calling * 16 - 15, calling * 16)
      fields[#fields + 1] = string.sub(packed, 1, 2) .. carrier_byte .. string.sub(packed, 4, 4) .. seconds
        .. struct.pack('>I8', tonumber(numbers[calling])) .. string.sub(packed, 17)
    end
  end
  redis.call('HSET', bindings[called], unpack(fields))
  redis.call('PEXPIREAT', bindings[called], lease_end)
  fences[called] = string.match(entries[called] or '', '^%S+ %S+ (%d+)') or '0'
end
redis.call('HSET', order, 'terms', table.concat({pool, carrier, carrier_id, key, cooldown}, ' '), 'roles', roles,
  'tokens', tokens, 'numbers', table.concat(numbers, ','), 'fences', table.concat(fences, ','),
  'end', lease_end, 'settled', '0')
redis.call('ZADD', leases, lease_end, id)
keep_clock(meta, now, seen)
return {1, lease_end, carrier, left - parties, numbers, entries}

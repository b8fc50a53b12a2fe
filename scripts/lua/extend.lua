#!lua
-- extend: let an active order's lease end ttl from now, sooner or later than before.
--
-- KEYS[1] guard   {t}:~           never exists
-- KEYS[2] meta    {t}:meta        HASH
-- KEYS[3] order   {t}:order:<id>  HASH
-- KEYS[4] leases  {t}:leases      ZSET
-- ARGV[1] id      the order's id
-- ARGV[2] ttl     ms
-- ARGV[3] tombstone  how long a mark outlives the lease, ms
-- TOUCHES {t}:vn:<VN> of its VNs
-- RETURNS {1 EXTENDED, {order hash...}, {{caller token, packed binding, ...} by VN...}}
-- RETURNS {2 UNKNOWN}  {3 ENDED}  {4 FORWARDED, mark, partition}: the order may be in that partition
-- include lib_clock.lua
-- include lib_order.lua
local _, meta, key, leases = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, ttl, tombstone = ARGV[1], ARGV[2], ARGV[3]
local now, seen = clock(meta)
local order = load_order(key)
if order.state == 'forwarded' then
  redis.call('PEXPIREAT', key, ms(math.max(redis.call('PEXPIRETIME', key), now + ttl + tombstone)))
  return {4, order.mark, order.at}
end
if not order.state or order.state == 'refused' then return {2} end
if order.state ~= 'active' or lapsed(order, now) then return {3} end

local lease_end = ms(now + ttl)
local seconds, bindings = struct.pack('>I4', math.ceil(lease_end / 1000)), {}
for number in string.gmatch(order.numbers, '%d+') do
  local binding = prefix_of(meta) .. 'vn:' .. number
  local fields = redis.call('HGETALL', binding)
  for i = 2, #fields, 2 do fields[i] = string.sub(fields[i], 1, 4) .. seconds .. string.sub(fields[i], 9) end
  if #fields > 0 then
    redis.call('HSET', binding, unpack(fields))
    redis.call('PEXPIREAT', binding, lease_end)
  end
  bindings[#bindings + 1] = fields
end
redis.call('HSET', key, 'end', lease_end, 'settled', '0')
redis.call('ZADD', leases, lease_end, id)
keep_clock(meta, now, seen)
return {1, redis.call('HGETALL', key), bindings}

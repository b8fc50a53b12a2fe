#!lua flags=allow-oom
-- settle: note that the ledger has accepted the records of an order's VNs.
--
-- KEYS[1] guard      {t}:~           never exists
-- KEYS[2] meta       {t}:meta        HASH
-- KEYS[3] order      {t}:order:<id>  HASH
-- KEYS[4] leases     {t}:leases      ZSET
-- KEYS[5] inventory  {t}:inventory   HASH
-- ARGV[1] id         the order's id
-- ARGV[2] state      active or ended: what the records say
-- ARGV[3] end        the `end` that they say, ms
-- ARGV[4+] number    each VN, as the order's `numbers` has them (none for a tombstone that points elsewhere), then
-- ARGV[5+] fence     sequence of its record: a pair for each VN
-- TOUCHES {t}:cooling:<pool>:<carrier> of the order's pool and carrier
-- RETURNS {1 SETTLED}
-- RETURNS {2 STALE}: the order has moved on (extended, ended, gone); only the fences were kept
-- RETURNS {3 BEHIND}: this server has lost what the records say, and kept no fence that it does not live up to
-- include lib_clock.lua
-- include lib_order.lua
-- include lib_forget.lua
local _, meta, key, leases, inventory = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, state, at = ARGV[1], ARGV[2], ARGV[3]
local order, fences, behind = load_order(key), {}, false
for i = 4, #ARGV, 2 do
  local number, fence = ARGV[i], ARGV[i + 1]
  fences[#fences + 1] = fence
  -- With the fence of an assignment that was lost the VN, free here, could be given to
  -- another order; with that of a lost end, repair would take the end for known.
  local holds = order.numbers and holds_any(order, number)
  if holds and (state == 'active' or order.state == state) then keep_fence(inventory, number, fence)
  elseif state == 'active' or order.state == 'active' then behind = true end
end
if behind then return {3} end
if order.state ~= state or order['end'] ~= at and not order.at then return {2} end
if order.settled == '1' then return {1} end
redis.call('HSET', key, 'settled', '1', 'fences', table.concat(fences, ','))
if state == 'active' then return {1} end

redis.call('ZREM', leases, id)
if order.at then return {1} end
-- A VN may rest only until release + cool-down now, if it still rests for this order:
-- its score then is exactly what `release` wrote.
local cooling = prefix_of(meta) .. 'cooling:' .. order.pool .. ':' .. order.carrier
local waits, rested = order.lease + order.cooldown, order['end'] + order.cooldown
for number in string.gmatch(order.numbers, '%d+') do
  if tonumber(redis.call('ZSCORE', cooling, number)) == waits and rested < waits then
    redis.call('ZADD', cooling, 'XX', ms(rested), number)
  end
end
return {1}

#!lua
-- restore: make Redis say of a VN what its last ledger record says, where Redis knows
-- only older ones. What is under way, and so not in the ledger yet, is left alone.
--
-- KEYS[1] guard      {t}:~           never exists
-- KEYS[2] meta       {t}:meta        HASH
-- KEYS[3] order      {t}:order:<id>  HASH
-- KEYS[4] inventory  {t}:inventory   HASH
-- ARGV[1] number     digits
-- ARGV[2] fence      sequence of the record
-- ARGV[3] kind       assigned, released, owned or retired
-- ARGV[4] pool       of the record
-- ARGV[5] carrier    of the record
-- ARGV[6] ref        the carrier's id of the VN
-- ARGV[7] sure       1: no order that ran out lists a VN that is in no state; 2: and nothing is under way
-- ARGV[8] tombstone  how long the tombstone of an order stays, ms
-- ARGV[9] id         the record's order, empty when it has none
-- ARGV[10] at        lease end, or when the order ended, ms
-- ARGV[11] cooldown  how long the VN rests, ms
-- ARGV[12] reason    why the order ended; given_up: it did not, it gave this VN back
-- ARGV[13] whole     1: the ledger says of all VNs of the order that it has them (from here on only if assigned)
-- ARGV[14] terms     as the order's hash has them, like those that follow
-- ARGV[15] roles
-- ARGV[16] tokens
-- ARGV[17] numbers
-- ARGV[18+] token    of a caller, then
-- ARGV[19+] packed   its binding, a pair for each who may call the VN
-- TOUCHES {t}:vn:<VN> {t}:ended:<VN> {t}:order:<id> of the VN and the orders that have it
-- TOUCHES {t}:free {t}:cooling {t}:draining {t}:total of its pools and carriers; {t}:leases
-- RETURNS {1 RESTORED}  {2 KNOWN}: Redis knows this record or a later one  {3 BUSY}: it is being changed
-- RETURNS {4 HELD, id}: an order has it that has it no more  {5 ADRIFT}: in no state; one that ran out may list it
-- RETURNS {6 ENDED, reason, ended at ms}: the order has ended, the ledger does not know
-- RETURNS {7 MOVED, partition}: the order has other VNs, or is there  {8 PARTIAL}: it is unknown, and must be whole
-- include lib_clock.lua
-- include lib_order.lua
-- include lib_forget.lua
-- include lib_restore.lua
local _, meta, order, inventory = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local number, fence, kind, pool, carrier, ref, sure, tombstone, id, at, cooldown, reason = unpack(ARGV, 1, 12)
local prefix, where = prefix_of(meta), pool .. ':' .. carrier
sure = tonumber(sure)
local had_pool, had_carrier, known = string.match(redis.call('HGET', inventory, number) or '', '^(%S+) (%S+) (%d+)')
local had = known and had_pool .. ':' .. had_carrier
if known and (tonumber(known) > tonumber(fence) or known == fence and sure == 0) then return {2} end

local now, seen = clock(meta)
local own = load_order(order)
local mine = own.state == 'active' and holds_any(own, number)
local why = in_the_way(prefix, number, kind, id, own, mine, reason, had, sure)
if why then return why end
if kind == 'assigned' and not mine and ARGV[13] ~= '1' then return {8} end
if mine and kind ~= 'assigned' then
  end_order(prefix, now, id, own, reason, tombstone)
  had = redis.call('HEXISTS', inventory, number) == 1 and had
end
if kind == 'retired' then
  if had then
    leave(prefix, had, number)
    redis.call('SREM', prefix .. 'draining:' .. had, number)
    retire(prefix, had, number)
  end
elseif had or kind ~= 'released' or not mine then -- else it has left with its order
  local stays = kind == 'released' and mine or kind == 'owned' and had == where and not adrift(prefix, had, number)
  if had and not stays then leave(prefix, had, number) end
  enroll(prefix, number, had, where, table.concat({pool, carrier, fence, ref}, ' '))
  if kind == 'assigned' then
    revive(prefix, id, own, mine, number, at, 14)
  elseif not stays then
    if had then redis.call('SREM', prefix .. 'draining:' .. had, number) end
    local rested = kind == 'released' and at + cooldown or 0
    if rested > now then redis.call('ZADD', prefix .. 'cooling:' .. where, ms(rested), number)
    else redis.call('SADD', prefix .. 'free:' .. where, number) end
  end
end
if kind == 'released' and reason ~= 'given_up' and at + tombstone > now
  and (not own.state or own.state == 'refused') then
  bury(order, now, reason, tombstone, '1')
end
keep_clock(meta, now, seen)
return {1}

#!lua flags=allow-oom
-- drain: take a VN out of its pool: at once when it is free or resting, else when its
-- order ends; or only if it is free.
--
-- KEYS[1] guard      {t}:~          never exists
-- KEYS[2] meta       {t}:meta       HASH
-- KEYS[3] inventory  {t}:inventory  HASH
-- KEYS[4] total      {t}:total      HASH
-- ARGV[1] number     digits
-- ARGV[2] pool       the pool that it must be in
-- ARGV[3] only       free: one that is not free stays as it is; any: it need not be
-- TOUCHES {t}:free:<pool>:<carrier> {t}:cooling:<pool>:<carrier> {t}:draining:<pool>:<carrier> of its pool and carrier
-- TOUCHES {t}:ended:<VN>; {t}:order:<id> of its last order
-- RETURNS {1 LEFT, inventory entry}  {2 DRAINING, inventory entry}  {3 UNKNOWN}  {4 BUSY}: not free
-- include lib_clock.lua
-- include lib_order.lua
local _, meta, inventory = KEYS[1], KEYS[2], KEYS[3]
local number, pool, only = ARGV[1], ARGV[2], ARGV[3]
local entry = redis.call('HGET', inventory, number)
local owner, carrier = string.match(entry or '', '^(%S+) (%S+) ')
if owner ~= pool then return {3} end

local prefix, where = prefix_of(meta), pool .. ':' .. carrier
if redis.call('SREM', prefix .. 'free:' .. where, number) == 1 then
  retire(prefix, where, number)
  return {1, entry}
end
if only == 'free' then return {4} end
if redis.call('ZREM', prefix .. 'cooling:' .. where, number) == 0 then
  redis.call('SADD', prefix .. 'draining:' .. where, number)
  return {2, entry}
end
retire(prefix, where, number)
-- The release of its last order may not be in the ledger yet. It then is published
-- once more, and the VN's last record must say `retired` all the same.
local note = redis.call('HVALS', prefix .. 'ended:' .. number)[1]
local key = prefix .. 'order:' .. (string.match(note or '', '%S+$') or '')
local order = load_order(key)
if order.settled == '0' and string.find(',' .. (order.numbers or '') .. ',', ',' .. number .. ',', 1, true) then
  redis.call('HSET', key, 'retired', order.retired == '' and number or order.retired .. ',' .. number)
end
return {1, entry}

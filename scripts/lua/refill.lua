#!lua
-- refill: add VNs to a pool. A VN that is there already stays as it is, but for a
-- drain, which is undone; one of another pool or carrier is left alone.
--
-- KEYS[1] guard      {t}:~                          never exists
-- KEYS[2] meta       {t}:meta                       HASH
-- KEYS[3] inventory  {t}:inventory                  HASH
-- KEYS[4] total      {t}:total                      HASH
-- KEYS[5] free       {t}:free:<pool>:<carrier>      SET
-- KEYS[6] draining   {t}:draining:<pool>:<carrier>  SET
-- ARGV[1] pool
-- ARGV[2] carrier
-- ARGV[3+] number    digits, then
-- ARGV[4+] fence     sequence of its ledger record, then
-- ARGV[5+] ref       the carrier's id of it: three for each VN
-- RETURNS {1 DONE, added, present, {foreign VN...}}  {2 COLD}
local _, meta, inventory, total, free, draining = unpack(KEYS, 1, 6)
local pool, carrier = ARGV[1], ARGV[2]
if redis.call('HGET', meta, 'ready') ~= '1' then return {2} end
local owner = pool .. ' ' .. carrier .. ' '
local added, present, foreign = 0, 0, {}
for i = 3, #ARGV, 3 do
  local number, fence, ref = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local entry = redis.call('HGET', inventory, number)
  if not entry then
    redis.call('HSET', inventory, number, owner .. fence .. ' ' .. ref)
    redis.call('SADD', free, number)
    added = added + 1
  elseif string.sub(entry, 1, #owner) == owner then
    redis.call('SREM', draining, number)
    present = present + 1
  else
    foreign[#foreign + 1] = number
  end
end
-- HINCRBY by 0 makes the pool known to `stock` and `reap` before its first VN.
redis.call('HINCRBY', total, pool .. ':' .. carrier, added)
redis.call('HINCRBY', meta, 'changes', added)
return {1, added, present, foreign}

#!lua flags=no-writes
-- stock: count the VNs of every pool and carrier at this moment.
--
-- KEYS[1] guard  {t}:~      never exists
-- KEYS[2] meta   {t}:meta   HASH
-- KEYS[3] total  {t}:total  HASH
-- TOUCHES {t}:free:<pool>:<carrier> {t}:cooling:<pool>:<carrier> {t}:draining:<pool>:<carrier> of all pools
-- RETURNS {{<pool>:<carrier>, total, free with those that have rested, cooling, draining}...}
-- include lib_clock.lua
local _, meta, total = KEYS[1], KEYS[2], KEYS[3]
local prefix, now, totals, rows = prefix_of(meta), clock(meta), redis.call('HGETALL', total), {}
for i = 1, #totals, 2 do
  local where = totals[i]
  local cooling = prefix .. 'cooling:' .. where
  local all, rested = redis.call('ZCARD', cooling), redis.call('ZCOUNT', cooling, '-inf', ms(now))
  rows[#rows + 1] = {where, tonumber(totals[i + 1]), redis.call('SCARD', prefix .. 'free:' .. where) + rested,
    all - rested, redis.call('SCARD', prefix .. 'draining:' .. where)}
end
return rows

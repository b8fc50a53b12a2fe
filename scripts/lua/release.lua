#!lua flags=allow-oom
-- release: end an order, once. Its VNs route no more and rest; a tombstone stays.
--
-- KEYS[1] guard      {t}:~           never exists
-- KEYS[2] meta       {t}:meta        HASH
-- KEYS[3] order      {t}:order:<id>  HASH
-- ARGV[1] id         the order's id
-- ARGV[2] reason     completed or cancelled; a lapsed order ends as expired all the same
-- ARGV[3] tombstone  how long the tombstone stays, ms
-- TOUCHES {t}:vn:<VN> {t}:ended:<VN> of its VNs; {t}:leases {t}:inventory {t}:total
-- TOUCHES {t}:cooling:<pool>:<carrier> {t}:draining:<pool>:<carrier> of the order's pool and carrier
-- RETURNS {1 RELEASED, {order hash...}}  {2 REPLAYED, {order hash...}}
-- RETURNS {3 UNKNOWN, {order hash...}}: a tombstone was left, so that a late `assigned` finds it
-- RETURNS {4 COLD}: the partition has lost its data, and with them perhaps the order: nothing was done
-- A hash with `at` says that the order is to be ended in that partition as well.
-- include lib_clock.lua
-- include lib_order.lua
local _, meta, key = KEYS[1], KEYS[2], KEYS[3]
local id, reason, tombstone = ARGV[1], ARGV[2], ARGV[3]
local now, seen = clock(meta)
local status, order = 2, load_order(key)
if order.state == 'forwarded' then
  -- The tombstone keeps the mark, so that a repeat, or the reaper, ends it there too.
  bury(key, now, reason, tombstone, '0')
  redis.call('ZADD', prefix_of(meta) .. 'leases', ms(now + 30000), id)
elseif not order.state or order.state == 'refused' then
  if redis.call('HGET', meta, 'ready') ~= '1' then return {4} end
  status = 3
  bury(key, now, reason, tombstone, '1')
elseif order.state == 'active' then
  status = 1
  end_order(prefix_of(meta), now, id, order, reason, tombstone)
  keep_clock(meta, now, seen)
end
return {status, redis.call('HGETALL', key)}

#!lua
-- remind: tell an order's own partition, if it knows nothing of the order, where the order
-- is, or that it has ended.
--
-- KEYS[1] guard   {t}:~           never exists
-- KEYS[2] meta    {t}:meta        HASH
-- KEYS[3] order   {t}:order:<id>  HASH
-- ARGV[1] at      the partition, or - if the order has ended
-- ARGV[2] reason  why it ended
-- ARGV[3] lasts   how long to keep that, ms
-- ARGV[4] sure    1: also where it points to another partition, where the order is not
-- RETURNS {1 DONE}  {2 KNOWN, state, partition}: what is known of the order
-- include lib_clock.lua
-- include lib_order.lua
-- include lib_spill.lua
local _, meta, key = KEYS[1], KEYS[2], KEYS[3]
local at, reason, lasts, sure = unpack(ARGV)
local now, seen = clock(meta)
local held = load_order(key)
if held.state and held.state ~= 'refused' and not (sure == '1' and held.state == 'forwarded') then
  return {2, held.state, held.at or ''}
end
if at == '-' then
  bury(key, now, reason, lasts, '1')
else
  forward(key, held, now, at, lasts)
end
keep_clock(meta, now, seen)
return {1}

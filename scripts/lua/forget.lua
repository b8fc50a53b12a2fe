#!lua
-- forget: take back an order's assignment that the ledger contradicts. Its VNs rest until
-- its lease would have ended, or until they are restored.
--
-- KEYS[1] guard   {t}:~           never exists
-- KEYS[2] meta    {t}:meta        HASH
-- KEYS[3] order   {t}:order:<id>  HASH
-- ARGV[1] id      the order's id
-- ARGV[2] number  a VN that it must hold
-- TOUCHES {t}:vn:<VN> {t}:cooling {t}:draining {t}:total of its VNs; {t}:inventory {t}:leases
-- RETURNS {1 FORGOTTEN, VNs joined by commas}  {2 NOT}: it does not hold the VN
-- include lib_clock.lua
-- include lib_order.lua
-- include lib_forget.lua
local _, meta, key = KEYS[1], KEYS[2], KEYS[3]
local id, number = ARGV[1], ARGV[2]
local now, order = clock(meta), load_order(key)
if order.state ~= 'active' or not holds_any(order, number) then return {2} end
forget(prefix_of(meta), now, id, order, '')
return {1, order.numbers}

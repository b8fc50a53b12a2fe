-- holds_any tells whether an order holds one of the numbers joined by commas.
local function holds_any(order, numbers)
  local held = ',' .. order.numbers .. ','
  for number in string.gmatch(numbers, '%d+') do
    if string.find(held, ',' .. number .. ',', 1, true) then return true end
  end
  return false
end

-- forget takes back an assignment that nobody has heard of. The VNs that it had won in
-- the ledger, and given back there, rest for the cool-down; those lost, which the repair
-- puts where they belong, until their lease would have ended.
local function forget(prefix, now, id, order, won)
  local fences, where = {}, order.pool .. ':' .. order.carrier
  for number, fence in string.gmatch(won, '(%d+) (%d+)') do fences[number] = fence end
  for number in string.gmatch(order.numbers, '%d+') do
    redis.call('DEL', prefix .. 'vn:' .. number)
    if redis.call('SREM', prefix .. 'draining:' .. where, number) == 1 then
      retire(prefix, where, number)
    else
      local from = fences[number] and now or order['end']
      redis.call('ZADD', prefix .. 'cooling:' .. where, ms(from + order.cooldown), number)
      if fences[number] then keep_fence(prefix .. 'inventory', number, fences[number]) end
    end
  end
  redis.call('DEL', prefix .. 'order:' .. id)
  redis.call('ZREM', prefix .. 'leases', id)
end

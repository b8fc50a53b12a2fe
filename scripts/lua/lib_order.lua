-- load_order returns an order's hash as a table, empty when there is none, and as Redis
-- gave it. A live order has no `state`; what `terms` says gets names of its own.
local function load_order(key)
  local flat, order = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do order[flat[i]] = flat[i + 1] end
  if #flat > 0 then
    order.state = order.state or 'active'
    local terms = string.gmatch(order.terms or '', '%S+')
    order.pool, order.carrier, order.carrier_id, order.key, order.cooldown = terms(), terms(), terms(), terms(), terms()
  end
  return order, flat
end

-- bury leaves the tombstone of an order that has no VNs here.
local function bury(key, now, reason, tombstone, settled)
  redis.call('HSET', key, 'state', 'ended', 'reason', reason, 'end', ms(now), 'settled', settled)
  redis.call('PEXPIREAT', key, ms(now + tombstone))
end

local function lapsed(order, now) return tonumber(order['end']) <= now end

-- retire takes a VN out of the pool for good.
local function retire(prefix, where, number)
  redis.call('HDEL', prefix .. 'inventory', number)
  redis.call('HINCRBY', prefix .. 'total', where, -1)
  redis.call('HINCRBY', prefix .. 'meta', 'changes', 1)
end

-- keep_fence keeps the sequence of a VN's ledger record, unless a later one is known.
local function keep_fence(inventory, number, fence)
  local entry = redis.call('HGET', inventory, number)
  local head, known, tail = string.match(entry or '', '^(%S+ %S+ )(%d+)( .*)$')
  if head and tonumber(known) < tonumber(fence) then
    redis.call('HSET', inventory, number, head .. fence .. tail)
  end
end

-- end_order ends an active order: nothing routes any more, each VN rests until its
-- recorded lease end + cool-down, and the order becomes a tombstone. It stays in
-- leases, due again in 30 s, until `settle` says that the ledger knows.
local function end_order(prefix, now, id, order, reason, tombstone)
  local at = ms(now)
  if lapsed(order, now) then reason, at = 'expired', order['end'] end
  local where = order.pool .. ':' .. order.carrier
  local rested = ms(order['end'] + order.cooldown)
  local note = reason .. ' ' .. at .. ' ' .. order.carrier_id .. ' ' .. id
  local retired, index = {}, 0
  for number in string.gmatch(order.numbers, '%d+') do
    index = index + 1
    local ended, fields = prefix .. 'ended:' .. number, {}
    for caller = 1, #order.tokens / 16 do
      if caller ~= index then
        fields[#fields + 1] = string.sub(order.tokens, caller * 16 - 15, caller * 16)
        fields[#fields + 1] = note
      end
    end
    redis.call('DEL', prefix .. 'vn:' .. number, ended)
    redis.call('HSET', ended, unpack(fields))
    redis.call('PEXPIREAT', ended, ms(now + tombstone))
    if redis.call('SREM', prefix .. 'draining:' .. where, number) == 1 then
      retire(prefix, where, number)
      retired[#retired + 1] = number
    else
      redis.call('ZADD', prefix .. 'cooling:' .. where, rested, number)
    end
  end
  local key = prefix .. 'order:' .. id
  redis.call('HDEL', key, 'roles', 'tokens')
  redis.call('HSET', key, 'state', 'ended', 'reason', reason, 'end', at, 'lease', order['end'],
    'retired', table.concat(retired, ','), 'settled', '0')
  redis.call('PEXPIREAT', key, ms(now + tombstone))
  redis.call('ZADD', prefix .. 'leases', ms(now + 30000), id)
end

-- leave takes a VN out of the states in which no order has it.
local function leave(prefix, where, number)
  redis.call('SREM', prefix .. 'free:' .. where, number)
  redis.call('ZREM', prefix .. 'cooling:' .. where, number)
end

-- adrift tells whether a VN that no order is seen to hold is in no state either: its
-- binding has expired, but not the order in Redis that still lists it.
local function adrift(prefix, where, number)
  return redis.call('SISMEMBER', prefix .. 'free:' .. where, number) == 0
    and not redis.call('ZSCORE', prefix .. 'cooling:' .. where, number)
end

-- in_the_way returns why the VN must be left alone for now, or nil. own is the record's
-- order, which holds the VN if mine.
local function in_the_way(prefix, number, kind, id, own, mine, reason, had, sure)
  local packed = redis.call('HVALS', prefix .. 'vn:' .. number)[1]
  local holder, other = packed and string.sub(packed, 53), own -- binding.go
  if holder and holder ~= id then other = load_order(prefix .. 'order:' .. holder) end
  if holder and other.state == 'active' and holds_any(other, number) and (holder ~= id or reason == 'given_up') then
    return other.settled == '0' and sure < 2 and {3} or {4, holder}
  end
  if had and not mine and sure == 0 and adrift(prefix, had, number) then return {5} end
  if kind ~= 'assigned' or mine then return nil end
  if own.state == 'ended' then
    local ending = own.settled == '0' and sure < 2 and own.numbers and holds_any(own, number)
    return ending and {3} or {6, own.reason, own['end']}
  end
  if own.state == 'active' or own.state == 'forwarded' and sure == 0 then return {7, own.at or ''} end
end

-- enroll writes a VN's entry in the inventory; had is the pool and carrier it was of.
local function enroll(prefix, number, had, where, entry)
  redis.call('HSET', prefix .. 'inventory', number, entry)
  if had == where then return end
  if had then redis.call('HINCRBY', prefix .. 'total', had, -1) end
  redis.call('HINCRBY', prefix .. 'total', where, 1)
  redis.call('HINCRBY', prefix .. 'meta', 'changes', 1)
end

-- revive writes an order and the bindings of one of its VNs. Whether the apps were told of
-- it is not known, so they are when `assigned` is delivered again. From ARGV[first] on its terms,
-- roles, tokens and numbers, then caller tokens and packed bindings.
local function revive(prefix, id, own, mine, number, at, first)
  local key, lease_end, fields = prefix .. 'order:' .. id, at, {}
  if mine and own.settled == '0' and tonumber(own['end']) > tonumber(at) then
    lease_end = own['end'] -- it is being extended
  elseif mine then
    redis.call('HSET', key, 'end', at)
  else
    local terms, roles, tokens, numbers = unpack(ARGV, first, first + 3)
    redis.call('DEL', key)
    redis.call('HSET', key, 'terms', terms, 'roles', roles, 'tokens', tokens, 'numbers', numbers,
      'fences', (string.gsub(numbers, '%d+', '0')), 'end', at, 'settled', 'restored')
  end
  redis.call('ZADD', prefix .. 'leases', lease_end, id)
  local seconds = struct.pack('>I4', math.ceil(lease_end / 1000))
  for i = first + 4, #ARGV, 2 do
    fields[#fields + 1] = ARGV[i]
    fields[#fields + 1] = string.sub(ARGV[i + 1], 1, 4) .. seconds .. string.sub(ARGV[i + 1], 9)
  end
  local binding = prefix .. 'vn:' .. number
  redis.call('DEL', binding)
  redis.call('HSET', binding, unpack(fields))
  redis.call('PEXPIREAT', binding, lease_end)
end

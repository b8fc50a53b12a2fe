-- take takes a VN for each party: free ones, and where those are too few others that
-- have rested.
local function take(free, cooling, now, parties)
  local numbers = redis.call('SPOP', free, parties)
  if #numbers < parties then
    local rested = redis.call('ZRANGE', cooling, '-inf', ms(now), 'BYSCORE', 'LIMIT', 0, parties - #numbers)
    for _, number in ipairs(rested) do
      redis.call('ZREM', cooling, number)
      numbers[#numbers + 1] = number
    end
  end
  return numbers
end

-- bind writes the bindings of each VN: the packed ones of ARGV after `template`, with
-- carrier, lease end and the VN to show at their places.
local function bind(prefix, numbers, tokens, carrier_id, lease_end, template)
  local carrier_byte, seconds = struct.pack('B', carrier_id), struct.pack('>I4', math.ceil(lease_end / 1000))
  local bindings = {}
  for called = 1, #numbers do bindings[called] = prefix .. 'vn:' .. numbers[called] end
  redis.call('DEL', unpack(bindings))
  for called = 1, #numbers do
    local fields = {}
    for calling = 1, #numbers do
      if calling ~= called then
        template = template + 1
        local packed = ARGV[template]
        fields[#fields + 1] = string.sub(tokens, calling * 16 - 15, calling * 16)
        fields[#fields + 1] = string.sub(packed, 1, 2) .. carrier_byte .. string.sub(packed, 4, 4) .. seconds
          .. struct.pack('>I8', tonumber(numbers[calling])) .. string.sub(packed, 17)
      end
    end
    redis.call('HSET', bindings[called], unpack(fields))
    redis.call('PEXPIREAT', bindings[called], lease_end)
  end
end

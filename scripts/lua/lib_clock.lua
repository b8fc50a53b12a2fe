-- ms writes a time or duration as a whole number (tostring would round it).
local function ms(value) return string.format('%.0f', value) end

-- clock returns the master's time in ms, and the time kept in meta. It never goes back:
-- the highest time seen is kept, so a failover to a slower clock cannot stretch or
-- revive a lease.
local function clock(meta)
  local time = redis.call('TIME')
  local now, seen = time[1] * 1000 + math.floor(time[2] / 1000), redis.call('HGET', meta, 'clock')
  return math.max(now, tonumber(seen) or 0), seen
end

-- keep_clock keeps the time in meta, unless it is the one that was seen there.
local function keep_clock(meta, now, seen)
  local text = ms(now)
  if text ~= seen then redis.call('HSET', meta, 'clock', text) end
end

local function prefix_of(meta) return string.sub(meta, 1, -1 - #'meta') end

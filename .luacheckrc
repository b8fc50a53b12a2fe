-- What a script sees inside Redis 7 (https://redis.io/docs/latest/develop/programmability/lua-api/).
std = "lua51"
read_globals = { "KEYS", "ARGV", "redis", "cjson", "struct", "bit" }
max_line_length = 120

-- A prediction's webhook deliveries, oldest first. ARGV: id. Returns a list of flat records.
local answer = {}
for _, delivery in ipairs(redis.call('LRANGE', 'musicgen:deliveries:' .. ARGV[1], 0, -1)) do
  answer[#answer + 1] = redis.call('HGETALL', 'musicgen:delivery:' .. delivery)
end
return answer

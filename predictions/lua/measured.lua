-- Let new measurements flow into a queue's pace. ARGV: queue, version of its model, share that the newest makes, seconds
-- to keep them, name, value, ...
local key = 'musicgen:pace:' .. ARGV[1] .. ':' .. ARGV[2]
for i = 5, #ARGV, 2 do
  local known = redis.call('HGET', key, ARGV[i]) or ARGV[i + 1]
  redis.call('HSET', key, ARGV[i], string.format('%.9g', known + ARGV[3] * (ARGV[i + 1] - known)))
end
redis.call('EXPIRE', key, ARGV[4])
return 1

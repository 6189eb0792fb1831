-- A prediction's webhook deliveries, oldest first. Given: id. Returns a list of flat records.
local answer = {}
for _, delivery in ipairs(redis.call('LRANGE', KEY.deliveries(given.id), 0, -1)) do
  answer[#answer + 1] = redis.call('HGETALL', KEY.delivery(delivery))
end
return answer

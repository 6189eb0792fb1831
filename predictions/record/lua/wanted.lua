-- Which of these predictions still want which objects. Given: ids.
-- Returns for each of them the lease token whose objects are wanted; '*' where all are, '' where none is.
local answer = {}
for _, id in ipairs(given.ids) do
  local record = redis.call('HMGET', KEY.prediction(id), 'status', 'lease_token')
  local wanted = '*'
  if not record[1] then wanted = '' end
  -- What earlier attempts have left is of no use once the last one has ended.
  if TERMINAL[record[1] or ''] and record[2] then wanted = record[2] end
  answer[#answer + 1] = wanted
end
return answer

-- Which of these uploaded files have a record. Given: ids. Returns 1 or 0 for each.
local answer = {}
for _, id in ipairs(given.ids) do answer[#answer + 1] = redis.call('EXISTS', KEY.file(id)) end
return answer

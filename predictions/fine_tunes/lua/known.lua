-- Which of these adapters are some fine-tune's version. Given: ids. Returns 1 or 0 for each.
local answer = {}
for _, id in ipairs(given.ids) do answer[#answer + 1] = redis.call('EXISTS', KEY.adapter(id)) end
return answer

-- Cancel predictions that have not ended by their deadline. Given: limit, error.
-- Returns how many it has looked at; as many as the limit means that there may be more.
return cancel_overdue(given.limit, given.error)

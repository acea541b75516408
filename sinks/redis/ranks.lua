-- Which row an entity shows: the last of the texts in `z:`, which compare byte by byte as order (event time), position and
-- key do. Order and position have no zero byte; the key ends the text, and may have any.
-- A row as an entity holds it is { stamp, order, fields }, fields false where it is gone.
local function position_in(fields)
  for i = 1, #fields, 2 do
    if fields[i] == '.p' then
      return fields[i + 1]
    end
  end
end

local function rank_of(id, held)
  return held[3] and held[2] .. '\0' .. position_in(held[3]) .. '\0' .. id
end

local function id_in(rank)
  return string.match(rank, '^%Z*%z%Z*%z(.*)$')
end

INSERT INTO notes SELECT g, g, 'what ' || g % 3 FROM generate_series(1, 9) AS g;

"""Two million rows of public data, asked as a service is asked: the first names of the United States, 1880 to 2017."""

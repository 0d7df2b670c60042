"""What Workhorse costs a Django project, beside what it replaces."""

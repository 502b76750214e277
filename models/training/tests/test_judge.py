"""What counts as heard right: slips of the judge's spelling do, another answer never does."""

import pytest

from pipeline import judge, questions


@pytest.mark.parametrize(("heard", "said"), [
    ("3 plus 1 is 4.", "Three plus one is four."),
    ("1, 2, 3.", "One, two, three."),
    ("You're welcome.", "You are welcome."),
    ("My name is Eddie.", "My name is Eddy."),
    ("The color of grass is green.", "The colour of grass is green."),
    ("There are 365 days in a year.", "There are three hundred sixty-five days in a year."),
    ("There are 1,000 grams in a kilogram.", "There are one thousand grams in a kilogram."),
    ("They're 100 years in the century.", "There are one hundred years in a century."),
    ("Tokyo was the capital of Japan.", "Tokyo is the capital of Japan."),
    ("Parishes the capital of France.", "Paris is the capital of France."),
    ("The opposite of richest poor.", "The opposite of rich is poor."),
    ("You spell Doug like this, D-O-G.", "You spell dog like this: D, O, G."),
    ("You spell book like this, B, oh, oh, kay.", "You spell book like this: B, O, O, K."),
])
def test_the_same_meaning(heard, said):
    assert judge.right(heard, said)


@pytest.mark.parametrize(("heard", "said"), [
    ("7 plus 7 is 4.", "Seven plus seven is fourteen."),
    ("7 plus 6 is 13.", "Six plus seven is thirteen."),
    ("Vienna is the capital of France.", "Paris is the capital of France."),
    ("The capital of France.", "Paris is the capital of France."),
    ("January has 30 days.", "January has thirty-one days."),
    ("The opposite of poor is rich.", "The opposite of rich is poor."),
    ("The opposite of wet is drying.", "The opposite of hot is cold."),
    ("Monday comes before Tuesday.", "Monday comes after Sunday."),
    ("You spell dog like this, D-L-G.", "You spell dog like this: D, O, G."),
    ("You spell dog like this.", "You spell dog like this: D, O, G."),
    ("You spell cat like this, D-O-G.", "You spell dog like this: D, O, G."),
    ("1, 2, 3, 4, 5, 6, 7.", "One, two, three, four, five, six."),
    ("Sorry, I did not understand that.", "Goodbye!"),
    ("", "Goodbye!"),
])
def test_another_meaning(heard, said):
    assert not judge.right(heard, said)


def test_no_answer_passes_for_another():
    answers = questions.answers()
    assert [(heard, said) for heard in answers for said in answers if heard != said and judge.right(heard, said)] == []

/* Nothing: linked with all of the library, its size is the library's. */
int main(void)
{
    return 0;
}
